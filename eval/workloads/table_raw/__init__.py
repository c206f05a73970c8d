"""Regression on a raw table: columns of very different scales, not standardised."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import perceptron

WORKLOAD = Workload(
    name="table_raw",
    dataset="air_times",
    metric=Metric("root mean square error", higher_is_better=False),
    batch_size=128,
    step_hint=1600,
    load=load,
    build_model=perceptron,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
