"""Pocket workloads with ten times the parameters, for one GPU: the same code, larger widths.

They belong to no suite and have no targets until you search for them:

    python -m eval.set_targets --workload eval.bench:IMAGE_VIT --device cuda
    python -m eval.self_tuning --workload eval.bench:IMAGE_VIT --device cuda

Data, batches, steps and losses are those of the pocket workloads.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from . import workloads
from .workload import Workload
from .workloads.ctr_dlrm.model import DLRM
from .workloads.image_resnet.model import ResNet
from .workloads.image_vit.model import ViT
from .workloads.molecule_gnn.model import GraphNetwork
from .workloads.mri_unet.model import UNet
from .workloads.speech_conformer.model import Conformer
from .workloads.speech_deepspeech.model import DeepSpeech
from .workloads.translation_transformer.model import Transformer


def _larger(workload: Workload, build_model: Callable[[], nn.Module]) -> Workload:
    return replace(workload, name=f"{workload.name}_10x", build_model=build_model)


CTR_DLRM = _larger(
    workloads.CTR_DLRM, partial(DLRM, width=56, bottom=(432, 216), top=(1296, 1296, 648))
)
MRI_UNET = _larger(workloads.MRI_UNET, partial(UNet, channels=25))
IMAGE_RESNET = _larger(workloads.IMAGE_RESNET, partial(ResNet, widths=(51, 102, 204)))
IMAGE_VIT = _larger(workloads.IMAGE_VIT, partial(ViT, width=156))
SPEECH_CONFORMER = _larger(workloads.SPEECH_CONFORMER, partial(Conformer, width=208, channels=48))
SPEECH_DEEPSPEECH = _larger(
    workloads.SPEECH_DEEPSPEECH, partial(DeepSpeech, width=308, channels=24)
)
MOLECULE_GNN = _larger(workloads.MOLECULE_GNN, partial(GraphNetwork, width=158))
TRANSLATION_TRANSFORMER = _larger(
    workloads.TRANSLATION_TRANSFORMER, partial(Transformer, width=404, hidden_width=404)
)

BENCH: tuple[Workload, ...] = (
    CTR_DLRM,
    MRI_UNET,
    IMAGE_RESNET,
    IMAGE_VIT,
    SPEECH_CONFORMER,
    SPEECH_DEEPSPEECH,
    MOLECULE_GNN,
    TRANSLATION_TRANSFORMER,
)
