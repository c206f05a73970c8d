"""AlgoPerf's wmt at pocket scale: translation of user-interface texts from German to English."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import Transformer

WORKLOAD = Workload(
    name="translation_transformer",
    algoperf="wmt",
    dataset="sentences",
    metric=Metric("BLEU", higher_is_better=True),
    batch_size=16,
    step_hint=2000,
    load=load,
    build_model=Transformer,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
