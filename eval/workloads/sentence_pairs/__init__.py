"""Contrastive learning: two encoders embed a sentence and its translation close to each other."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import Towers

WORKLOAD = Workload(
    name="sentence_pairs",
    dataset="sentences",
    metric=Metric("mean reciprocal rank", higher_is_better=True),
    batch_size=128,
    step_hint=600,
    load=load,
    build_model=Towers,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
