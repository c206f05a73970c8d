"""Pixels of a photograph: three quarters for training, an eighth each for validation and test."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from ...data import read
from ...workload import Arrays, Batch, Splits

RANGE = 2.0  # of the colours, which lie between -1 and 1


def load() -> Splits:
    """places (pixels, 2): row and column from -1 to 1; colours (pixels, 3): from -1 to 1."""
    arrays = {name: torch.from_numpy(array) for name, array in read("cat").items()}
    rows, columns = arrays["split"].shape
    axes = torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns)
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (rows, columns, 2)
    colours = RANGE * arrays["pixels"].float() / 255 - 1

    def split(part: int) -> Arrays:
        chosen = arrays["split"] == part
        return {"places": places[chosen], "colours": colours[chosen]}

    return Splits(split(0), split(1), split(2))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(places, colours); every batch holds all training pixels."""
    places, colours = train["places"], train["colours"]
    assert batch_size == len(places), (batch_size, len(places))
    while True:
        yield places, colours


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the colours."""
    places, colours = batch
    return mse_loss(model(places), colours)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Peak signal-to-noise ratio (PSNR) in decibels."""
    error = loss(model, (split["places"], split["colours"]))
    return 10 * (RANGE**2 / error).log10().item()
