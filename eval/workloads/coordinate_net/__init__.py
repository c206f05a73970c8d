"""A network that maps pixel coordinates to the colours of a photograph, trained full batch."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import Siren

WORKLOAD = Workload(
    name="coordinate_net",
    dataset="cat",
    metric=Metric("PSNR", higher_is_better=True),
    batch_size=6912,  # all training pixels
    step_hint=320,
    load=load,
    build_model=Siren,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
