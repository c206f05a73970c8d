"""Sharded tensors, torch's DTensors: telling one, and taking its local or its whole tensor.

They are recognized by their interface, so that torch.distributed.tensor need not be imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "to_local")


def own_part(tensor: Any) -> Tensor:
    """The tensor, or this rank's part of a sharded one; the same memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def own_parts(tensors: Sequence[Any]) -> Sequence[Tensor]:
    """`own_part` of each: quickly where none is sharded, as this is asked in every step."""
    if any(map(is_sharded, set(map(type, tensors)))):
        return list(map(own_part, tensors))
    return tensors


def whole(tensor: Any) -> Tensor:
    """The tensor; a sharded one is gathered from all ranks, each of which has to call this."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor
