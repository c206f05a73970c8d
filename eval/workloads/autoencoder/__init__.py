"""An autoencoder of Fashion-MNIST images with a bottleneck of 16 numbers."""

from ...workload import Metric, Workload
from ..images import load, training_batches
from .model import Autoencoder
from .reconstruction import evaluate, loss

WORKLOAD = Workload(
    name="autoencoder",
    dataset="fashion",
    metric=Metric("mean squared error", higher_is_better=False),
    batch_size=64,
    step_hint=1000,
    load=load,
    build_model=Autoencoder,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
