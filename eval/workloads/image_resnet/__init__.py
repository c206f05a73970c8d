"""AlgoPerf's imagenet_resnet at pocket scale: Fashion-MNIST with a ResNet."""

from ...workload import Workload
from ..images import METRIC, evaluate, load, loss, training_batches
from .model import ResNet

WORKLOAD = Workload(
    name="image_resnet",
    algoperf="imagenet_resnet",
    dataset="fashion",
    metric=METRIC,
    batch_size=32,
    step_hint=2600,
    load=load,
    build_model=ResNet,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)
