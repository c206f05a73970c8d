"""A network that overfits its 200 training images, so that it must hold its target to the end."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import network

WORKLOAD = Workload(
    name="digits_small",
    dataset="digits",
    metric=Metric("log loss", higher_is_better=False),
    batch_size=20,
    step_hint=1000,
    load=load,
    build_model=network,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
    must_hold_target=True,
)
