"""The mean squared error of reconstructions, as loss and as metric."""

from torch import Tensor, nn
from torch.nn import functional as F

from ...workload import Arrays, Batch
from ..images import EVALUATION_BATCH


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error per pixel; the labels are not used."""
    images, _ = batch
    return F.mse_loss(model(images), images)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean squared error per pixel, in units of the variance of the training images' pixels."""
    batches = split["images"].split(EVALUATION_BATCH)
    total = sum(F.mse_loss(model(images), images, reduction="sum") for images in batches)
    return float(total) / split["images"].numel()
