"""A perceptron with BatchNorm predicts the airline of a flight from a standardised table."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import perceptron

WORKLOAD = Workload(
    name="mlp_batchnorm",
    dataset="flights",
    metric=Metric("log loss", higher_is_better=False),
    batch_size=128,
    step_hint=1500,
    load=load,
    build_model=perceptron,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
