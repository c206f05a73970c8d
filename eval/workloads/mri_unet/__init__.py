"""AlgoPerf's fastmri at pocket scale: brain slices from a quarter of k-space with a U-Net."""

from ...workload import Workload
from .data import METRIC, evaluate, load, loss, training_batches
from .model import UNet

WORKLOAD = Workload(
    name="mri_unet",
    algoperf="fastmri",
    dataset="heads",
    metric=METRIC,
    batch_size=2,
    step_hint=1100,
    load=load,
    build_model=UNet,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
