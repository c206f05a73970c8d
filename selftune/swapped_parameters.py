"""Parameters whose values are swapped for an average at the moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

_lent: dict[int, Tensor] = {}  # by id: tensors that are compared compare their elements


@contextmanager
def lent(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Inside, these tensors hold an average."""
    these = {id(tensor): tensor for tensor in tensors}
    _lent.update(these)
    try:
        yield
    finally:
        for key in these:
            del _lent[key]


def refuse_lent(caller: str, tensors: Iterable[Tensor]) -> None:
    """Raise RuntimeError if one of them holds an average, which the caller would move."""
    if _lent and any(id(tensor) in _lent for tensor in tensors):
        raise RuntimeError(
            f"{caller} inside swap(), where the model holds an average; call it before swap()"
        )
