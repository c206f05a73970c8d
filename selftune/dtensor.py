"""Tensors of which every rank of a distributed run may hold a part: DTensors.

They are known by their interface, so that torch.distributed.tensor is not imported for nothing.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "to_local")


def own_part(tensor: Any) -> Tensor:
    """The tensor, or this rank's part of a sharded one; the same memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """The tensor, put together from all ranks if it is sharded; then all of them have to ask."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor
