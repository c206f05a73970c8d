"""The loss, for methods that compute their step size from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import whole
from selftune.optim.engine.collectives import Shards


def require_closure(closure: Any) -> None:
    """Raise ValueError for what cannot be called, such as the loss itself."""
    if not callable(closure):
        raise ValueError(
            f"step() takes a closure, got {type(closure).__name__}: pass the loss as "
            "step(loss=loss)"
        )


def needed(loss: Any, name: str) -> Tensor:
    """The loss as a 0-d tensor. Raises ValueError if `name.step` was not given one number."""
    if loss is None:
        raise ValueError(
            f"{name}.step() needs the loss: step(loss=loss), step(closure), or add_loss(loss) "
            "beside loss.backward()"
        )
    loss = whole(loss)
    number = torch.as_tensor(loss, dtype=None if isinstance(loss, Tensor) else torch.float64)
    if number.numel() != 1:
        raise ValueError(f"the loss must be one number, got the shape {tuple(number.shape)}")
    return number.detach().reshape(())


def with_mean(
    parts: Sequence[tuple[Shards, Sequence[Tensor]]], number: Tensor, partition: Shards = ()
) -> list[tuple[Shards, list[Tensor]]]:
    """The parts with one more term each, whose total is the mean of the ranks' numbers.

    The mean is over the ranks of the part that is split over the most process groups.
    """
    carrier = max(range(len(parts)), key=lambda i: len(parts[i][0]))
    groups = (*parts[carrier][0], *partition)
    share = number / math.prod(map(torch.distributed.get_world_size, groups))
    return [
        (over, [*sums, share.to(sums[-1]) if i == carrier else torch.zeros_like(sums[-1])])
        for i, (over, sums) in enumerate(parts)
    ]
