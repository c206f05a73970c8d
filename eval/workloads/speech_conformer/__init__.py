"""AlgoPerf's librispeech_conformer at pocket scale: phones of Russian, with a Conformer and CTC."""

from ...workload import Workload
from ..speech import METRIC, evaluate, load, loss, training_batches
from .model import Conformer

WORKLOAD = Workload(
    name="speech_conformer",
    algoperf="librispeech_conformer",
    dataset="speech",
    metric=METRIC,
    batch_size=8,
    step_hint=1600,
    load=load,
    build_model=Conformer,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
