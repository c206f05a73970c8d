"""All workloads by name, and the suites that contain them."""

from ..workload import Workload
from .adapter_lora import WORKLOAD as ADAPTER_LORA
from .autoencoder import WORKLOAD as AUTOENCODER
from .bandit_policy import WORKLOAD as BANDIT_POLICY
from .coordinate_net import WORKLOAD as COORDINATE_NET
from .ctr_dlrm import WORKLOAD as CTR_DLRM
from .digits_small import WORKLOAD as DIGITS_SMALL
from .forecast_gru import WORKLOAD as FORECAST_GRU
from .image_resnet import WORKLOAD as IMAGE_RESNET
from .image_vit import WORKLOAD as IMAGE_VIT
from .mlp_batchnorm import WORKLOAD as MLP_BATCHNORM
from .molecule_gnn import WORKLOAD as MOLECULE_GNN
from .mri_unet import WORKLOAD as MRI_UNET
from .sentence_pairs import WORKLOAD as SENTENCE_PAIRS
from .speech_conformer import WORKLOAD as SPEECH_CONFORMER
from .speech_deepspeech import WORKLOAD as SPEECH_DEEPSPEECH
from .table_raw import WORKLOAD as TABLE_RAW
from .text_gpt import WORKLOAD as TEXT_GPT
from .translation_transformer import WORKLOAD as TRANSLATION_TRANSFORMER
from .vit_wide4 import WORKLOAD as VIT_WIDE4

# In AlgoPerf's order.
POCKET: tuple[Workload, ...] = (
    CTR_DLRM,
    MRI_UNET,
    IMAGE_RESNET,
    IMAGE_VIT,
    SPEECH_CONFORMER,
    SPEECH_DEEPSPEECH,
    MOLECULE_GNN,
    TRANSLATION_TRANSFORMER,
)
# Kinds of problems that AlgoPerf lacks.
WIDE: tuple[Workload, ...] = (
    MLP_BATCHNORM,
    BANDIT_POLICY,
    TABLE_RAW,
    SENTENCE_PAIRS,
    DIGITS_SMALL,
    TEXT_GPT,
    ADAPTER_LORA,
    AUTOENCODER,
    COORDINATE_NET,
    FORECAST_GRU,
    VIT_WIDE4,
)

SUITES: dict[str, tuple[Workload, ...]] = {"pocket": POCKET, "wide": WIDE, "all": POCKET + WIDE}
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in SUITES["all"]}
