"""AlgoPerf's imagenet_vit at pocket scale: Fashion-MNIST with a vision transformer."""

from ...workload import Workload
from ..images import METRIC, evaluate, load, loss
from .data import training_batches
from .model import ViT

WORKLOAD = Workload(
    name="image_vit",
    algoperf="imagenet_vit",
    dataset="fashion",
    metric=METRIC,
    batch_size=32,
    step_hint=1700,
    load=load,
    build_model=ViT,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
