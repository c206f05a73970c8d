"""Parameters whose values are swapped for an average at the moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

_swapped: dict[int, Tensor] = {}  # by id: tensors that are compared compare their elements


@contextmanager
def swapped(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Inside, these tensors hold an average."""
    these = {id(tensor): tensor for tensor in tensors}
    _swapped.update(these)
    try:
        yield
    finally:
        for key in these:
            del _swapped[key]


def refuse_swapped(caller: str, tensors: Iterable[Tensor]) -> None:
    """Raise RuntimeError if one of them holds an average, which the caller would move."""
    if _swapped and any(id(tensor) in _swapped for tensor in tensors):
        raise RuntimeError(
            f"{caller} inside swap(), where the model holds an average; call it before swap()"
        )
