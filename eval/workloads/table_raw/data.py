"""Flights as numbers in the units of their sources, labelled with their air time.

Precipitation is at most .53 inches, the altitude of an airport up to 6,602 feet. The inputs are
used as they are; only the target is standardised.
"""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from ...data import read
from ...workload import Arrays, Batch, Splits
from ..shuffled import shuffled

NUM_INPUTS = 18


def load() -> Splits:
    """inputs (flights, NUM_INPUTS), raw; targets (flights,), standardised.

    minutes: the standard deviation of the training air times, one unit of the targets.
    """
    arrays = read("air_times")
    features, air_time, splits = (
        torch.from_numpy(arrays[name]) for name in ("features", "air_time", "split")
    )
    trained_on = air_time[splits == 0].double()
    mean, std = trained_on.mean(), trained_on.std()

    def split(part: int) -> Arrays:
        flights = splits == part
        return {
            "inputs": features.T[flights],
            "targets": ((air_time[flights] - mean) / std).float(),
            "minutes": std.item(),
        }

    return Splits(split(0), split(1), split(2))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(inputs, targets)"""
    return shuffled((train["inputs"], train["targets"]), batch_size, generator)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the standardised targets."""
    inputs, targets = batch
    return mse_loss(model(inputs).squeeze(-1), targets)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Root mean square error in minutes."""
    return split["minutes"] * loss(model, (split["inputs"], split["targets"])).sqrt().item()
