"""Random batches of the rows of a data set."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from ..workload import Batch


def shuffled(columns: tuple[Tensor, ...], batch_size: int, generator: Generator) -> Iterator[Batch]:
    """Endless batches of rows; every epoch has a new random order.

    columns: tensors whose first dimension is the rows. Rows that do not fill a batch at the end
    of an epoch are left out of that epoch.
    """
    num_rows, device = len(columns[0]), columns[0].device
    while True:
        order = torch.randperm(num_rows, generator=generator).to(device)
        for rows in order.split(batch_size)[: num_rows // batch_size]:
            yield tuple(column[rows] for column in columns)
