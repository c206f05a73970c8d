"""A record of the parameters that currently hold averaged weights, so that nothing moves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

_swapped: dict[int, Tensor] = {}  # keyed by id, as == on tensors compares their elements


@contextmanager
def swapped(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Record, inside the `with` block, that these tensors hold averaged weights."""
    these = {id(tensor): tensor for tensor in tensors}
    _swapped.update(these)
    try:
        yield
    finally:
        for key in these:
            del _swapped[key]


def refuse_swapped(caller: str, tensors: Iterable[Tensor]) -> None:
    """Raise RuntimeError if one of the tensors, which `caller` would move, holds an average."""
    if _swapped and any(id(tensor) in _swapped for tensor in tensors):
        raise RuntimeError(
            f"{caller} inside swap(), where the model holds an average; call it before swap()"
        )
