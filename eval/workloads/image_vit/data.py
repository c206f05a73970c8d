"""Training batches with mixup: images mixed in pairs."""

from collections.abc import Iterator

import torch
from scipy.special import betaincinv
from torch import Generator
from torch.nn import functional as F

from ...workload import Arrays, Batch
from .. import images

ALPHA = 0.2  # as in AlgoPerf


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(images, class probabilities); each image is mixed with the one before it in the batch.

    Zhang et al., mixup, 2017. https://arxiv.org/abs/1710.09412
    """
    for inputs, labels in images.training_batches(train, batch_size, generator):
        # share ~ Beta(ALPHA, ALPHA), by its quantile function: torch's Beta takes no generator.
        uniform = torch.rand((), dtype=torch.float64, generator=generator)
        share = float(betaincinv(ALPHA, ALPHA, uniform.item()))
        targets = F.one_hot(labels, images.NUM_CLASSES).float()
        yield inputs.roll(1, 0).lerp(inputs, share), targets.roll(1, 0).lerp(targets, share)
