"""Flights as standardised numbers, labelled with the airline.

Inputs that give the airline away (flight number, tail number) are left out.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from ...data import read
from ...workload import Arrays, Batch, Splits
from ..shuffled import shuffled

TIMES = ("month", "day", "weekday", "hour")  # categories whose codes have a natural order
NUM_AIRPORTS = 3  # airports of origin
NUM_INPUTS = 13 + len(TIMES) + NUM_AIRPORTS
NUM_AIRLINES = 16
HELD_OUT = 8000  # flights used of the 33,426 in validation and of as many in test, evenly spaced
EVALUATION_BATCH = 500


def load() -> Splits:
    """inputs (flights, NUM_INPUTS); airlines (flights,).

    Inputs are standardised with the training mean and deviation.
    """
    arrays = read("flights")
    codes = dict(zip(arrays["category_names"].tolist(), arrays["categories"], strict=True))
    origins = codes["origin"][:, None] == np.arange(1, 1 + NUM_AIRPORTS)
    times = np.stack([codes[name] for name in TIMES], axis=1)
    inputs = np.concatenate([arrays["numbers"].T, times, origins], axis=1).astype(np.float64)
    train = arrays["split"] == 0
    inputs -= inputs[train].mean(axis=0)
    inputs /= inputs[train].std(axis=0)
    airlines = codes["carrier"].astype(np.int64) - 1

    def split(part: int) -> Arrays:
        flights = np.flatnonzero(arrays["split"] == part)
        if part != 0:
            flights = flights[np.linspace(0, len(flights) - 1, HELD_OUT).astype(int)]
        return {
            "inputs": torch.from_numpy(inputs[flights]).float(),
            "airlines": torch.from_numpy(airlines[flights]),
        }

    return Splits(split(0), split(1), split(2))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(inputs, airlines)"""
    return shuffled((train["inputs"], train["airlines"]), batch_size, generator)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy."""
    inputs, airlines = batch
    return cross_entropy(model(inputs), airlines)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean cross-entropy (log loss) over all flights of the split."""
    logits = torch.cat([model(inputs) for inputs in split["inputs"].split(EVALUATION_BATCH)])
    return cross_entropy(logits, split["airlines"]).item()
