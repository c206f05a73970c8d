"""AlgoPerf's librispeech_deepspeech at pocket scale: phones of Russian, with LSTMs and CTC."""

from ...workload import Workload
from ..speech import METRIC, evaluate, load, loss, training_batches
from .model import DeepSpeech

WORKLOAD = Workload(
    name="speech_deepspeech",
    algoperf="librispeech_deepspeech",
    dataset="speech",
    metric=METRIC,
    batch_size=16,
    step_hint=1200,
    load=load,
    build_model=DeepSpeech,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
