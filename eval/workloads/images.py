"""Classification of Fashion-MNIST images: data, loss and metric that several workloads share."""

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ..data import read
from ..workload import Arrays, Batch, Metric, Splits

METRIC = Metric("accuracy", higher_is_better=True)
NUM_CLASSES = 10
SIZE = 28  # pixels
SHIFT = 2  # pixels: largest offset of a random crop from the centre
EVALUATION_BATCH = 250


def load() -> Splits:
    """images (images, 1, SIZE, SIZE); labels (images,).

    Pixels are standardised with the mean and deviation of the training images.
    """
    arrays = {name: torch.from_numpy(array) for name, array in read("fashion").items()}
    trained_on = arrays["train_images"].double()
    mean, std = trained_on.mean(), trained_on.std()

    def split(name: str) -> Arrays:
        images = ((arrays[f"{name}_images"] - mean) / std).float()
        return {
            "images": rearrange(images, "image row column -> image 1 row column"),
            "labels": arrays[f"{name}_labels"].long(),
        }

    return Splits(split("train"), split("validation"), split("test"))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(images, labels); every image is shifted and mirrored at random."""
    images, labels = train["images"], train["labels"]
    black = float(images.min())
    padded = F.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT), value=black)
    # every crop of every image, without copying: (images, channels, down, right, SIZE, SIZE)
    crops = padded.unfold(2, SIZE, 1).unfold(3, SIZE, 1)
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for members in order.split(batch_size)[: len(labels) // batch_size]:
            down, right = torch.randint(2 * SHIFT + 1, (2, batch_size), generator=generator)
            mirrored = torch.rand(batch_size, 1, 1, 1, generator=generator) < 0.5
            chosen = (one.to(images.device) for one in (members, down, right, mirrored))
            members, down, right, mirrored = chosen
            batch = crops[members, :, down, right]  # (batch, channels, SIZE, SIZE)
            yield torch.where(mirrored, batch.flip(-1), batch), labels[members]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy; targets are classes (batch,) or probabilities (batch, NUM_CLASSES)."""
    images, targets = batch
    return F.cross_entropy(model(images), targets)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Accuracy: the share of images whose most likely class is right."""
    batches = zip(
        split["images"].split(EVALUATION_BATCH),
        split["labels"].split(EVALUATION_BATCH),
        strict=True,
    )
    correct = sum((model(images).argmax(-1) == labels).sum() for images, labels in batches)
    return float(correct) / len(split["labels"])
