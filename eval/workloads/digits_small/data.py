"""200 handwritten digits for training, without augmentation."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from ...data import read
from ...workload import Arrays, Batch, Splits
from ..shuffled import shuffled

SIZE = 8  # pixels
NUM_CLASSES = 10
MOST_INK = 16  # largest value of a pixel


def load() -> Splits:
    """images (images, 1, SIZE, SIZE), from -1 to 1; labels (images,)."""
    arrays = {name: torch.from_numpy(array) for name, array in read("digits").items()}

    def split(part: int) -> Arrays:
        chosen = arrays["split"] == part
        images = 2 * arrays["images"][chosen].float() / MOST_INK - 1
        return {"images": images[:, None], "labels": arrays["labels"][chosen].long()}

    return Splits(split(0), split(1), split(2))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(images, labels)"""
    return shuffled((train["images"], train["labels"]), batch_size, generator)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy."""
    images, labels = batch
    return cross_entropy(model(images), labels)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean cross-entropy (log loss); unlike accuracy, it grows when errors are overconfident."""
    return loss(model, (split["images"], split["labels"])).item()
