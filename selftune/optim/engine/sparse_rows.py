"""Copies of the rows that a sparse gradient touches, for an update rule to work on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_sparse(p: Tensor) -> bool:
    """Whether the parameter's gradient is sparse."""
    return p.grad is not None and p.grad.is_sparse


class Rows:
    """The rows of a parameter and of its state that its sparse gradient touches."""

    def __init__(self, p: Tensor, tensors: Sequence[Tensor]) -> None:
        assert p.grad is not None
        grad = p.grad.coalesce()  # adds up entries with the same index
        dims = grad.sparse_dim()
        self.grad = grad.values()  # (rows, ...)
        self.index = torch.zeros_like(grad.indices()[0])
        for index, size in zip(grad.indices(), p.shape[:dims], strict=True):
            self.index = self.index * size + index
        self.wholes = [tensor.view(-1, *p.shape[dims:]) for tensor in tensors]
        self.parts = [whole[self.index] for whole in self.wholes]

    def read_parameters(self) -> None:
        pass  # the constructor has read them

    def write_back(self) -> None:
        for whole, part in zip(self.wholes, self.parts, strict=True):
            whole.index_copy_(0, self.index, part)
