"""DTensors, torch's sharded tensors: recognizing one, and taking its local or its full tensor.

They are recognized by their methods, so that torch.distributed.tensor need not be imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "to_local")


def own_part(tensor: Any) -> Tensor:
    """This rank's local tensor of a sharded tensor, or the tensor itself; no copy."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def own_parts(tensors: Sequence[Any]) -> Sequence[Tensor]:
    """`own_part` of each tensor; fast where none is sharded, as every step calls this."""
    if any(map(is_sharded, set(map(type, tensors)))):
        return list(map(own_part, tensors))
    return tensors


def whole(tensor: Any) -> Tensor:
    """The full tensor; a sharded one is gathered, so that all of its ranks have to call this."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor
