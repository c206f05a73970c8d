"""Flights as 13 numbers and 13 ids, labelled with whether the flight was late."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ...data import read
from ...workload import Arrays, Batch, Splits
from ..shuffled import shuffled

# Rows of the embedding table per column: the first row stands for all rare ids, the others for the
# most frequent ids. With a row for each of the 4,000 flight numbers and as many aircraft, a model
# memorizes them in its second epoch.
VOCABULARY = {
    "carrier": 17,
    "flight": 256,
    "tailnum": 256,
    "origin": 4,
    "dest": 105,
    "month": 13,
    "day": 32,
    "weekday": 8,
    "hour": 20,
    "manufacturer": 36,
    "model": 128,
    "engine": 7,
    "type": 4,
}
NUM_NUMBERS = 13
EVALUATION_BATCH = 512


def load() -> Splits:
    """numbers (flights, 13), standardised with the training mean and deviation; late (flights,).

    ids (flights, 13): rows of the embedding table.
    """
    arrays = read("flights")
    assert tuple(arrays["category_names"]) == tuple(VOCABULARY)
    split = arrays["split"]
    numbers = arrays["numbers"].astype(np.float64).T  # float32 sums would be too inaccurate
    numbers -= numbers[split == 0].mean(axis=0)
    numbers /= numbers[split == 0].std(axis=0)
    ids, first_row = [], 0
    for codes, num_rows in zip(arrays["categories"], VOCABULARY.values(), strict=True):
        rank = _rank_by_frequency(codes[split == 0], codes.max() + 1)[codes]
        ids.append(first_row + np.where(rank < num_rows, rank, 0))
        first_row += num_rows
    flights = {
        "numbers": torch.from_numpy(numbers).float(),
        "ids": torch.from_numpy(np.stack(ids, axis=1)),
        "late": torch.from_numpy(arrays["late"]).float(),
    }
    return Splits(*({key: flights[key][split == part] for key in flights} for part in range(3)))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(numbers, ids, late)"""
    return shuffled((train["numbers"], train["ids"], train["late"]), batch_size, generator)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean binary cross-entropy."""
    numbers, ids, late = batch
    return binary_cross_entropy_with_logits(model(numbers, ids), late)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean binary cross-entropy (log loss) over all flights of the split."""
    batches = zip(*(split[key].split(EVALUATION_BATCH) for key in ("numbers", "ids")), strict=True)
    logits = torch.cat([model(numbers, ids) for numbers, ids in batches])
    return binary_cross_entropy_with_logits(logits, split["late"]).item()


def _rank_by_frequency(codes: np.ndarray, num_codes: int) -> np.ndarray:
    """(num_codes,): the rank of each code by its frequency in `codes`, from 1.

    Of equally frequent codes the lower one comes first.
    """
    counts = np.bincount(codes, minlength=num_codes)
    rank = np.empty(num_codes, np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(1, num_codes + 1)
    return rank
