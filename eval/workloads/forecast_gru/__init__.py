"""Forecasts of the temperature in the next twelve hours with a recurrent network."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import GRU

WORKLOAD = Workload(
    name="forecast_gru",
    dataset="weather",
    metric=Metric("mean absolute error", higher_is_better=False),
    batch_size=32,
    step_hint=800,
    load=load,
    build_model=GRU,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
