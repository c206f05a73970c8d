"""Learnt numbers such as Prodigy's d: 0-d tensors on the device, in the parameter groups.

All groups share one estimate, and each holds it under the same key. A new value is a new tensor,
so that one kept in a log or a checkpoint does not change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Group
from selftune.optim.engine.options import require

# Learnt numbers that begin at the option d0; all others begin at 0.
DISTANCES = ("d", "d_max")


def add(groups: list[Group], names: Iterable[str]) -> None:
    """Give the newest group its own copies of the learnt numbers.

    A group that is added later takes over their present values. Each number is a 0-d tensor on the
    device of the group's parameters, or of another group's if it has none; float64 for float64
    parameters, else float32.
    """
    newest = groups[-1]
    params = (p for group in reversed(groups) for p in group["params"])
    p = next(params, torch.empty(0, dtype=torch.float64))
    dtype = torch.float64 if p.dtype in (torch.float64, torch.complex128) else torch.float32
    for name in names:
        first = groups[0].get(name, _start(newest, name))
        for group in groups:
            if group is newest or not group["params"]:
                number = torch.as_tensor(first, dtype=dtype, device=p.device)
                group[name] = number.detach().clone()


def write(groups: list[Group], **numbers: Tensor) -> None:
    """Write new values into all groups."""
    for group in groups:
        for name, number in numbers.items():
            group[name] = number.to(group[name])


def clear(groups: list[Group], names: Iterable[str]) -> None:
    """Reset learnt numbers to their first values, except plain numbers that a caller has set."""
    for name in names:
        for group in groups:
            if isinstance(group[name], Tensor):
                group[name] = torch.full_like(group[name], _start(group, name))


def check(groups: list[Group], names: Iterable[str]) -> None:
    """Raise ValueError for NaN, or a d that is not positive. The host waits for the device."""
    for group in groups:
        for name in names:
            if not group[name].is_meta:
                _require_valid(name, float(group[name]))


def _require_valid(name: str, value: float) -> None:
    if name in DISTANCES:
        require(0 < value < math.inf, name, value, "(0, inf)")
    elif math.isnan(value):
        raise ValueError(f"{name} must be a number, got {value}")


def _start(group: Group, name: str) -> float:
    return group["d0"] if name in DISTANCES else 0.0


class ByHand:
    """Learnt numbers that a caller has set by hand in the parameter groups.

    recomputed: numbers that every step recomputes before use, and what to set in their place.
    """

    def __init__(self, names: Sequence[str], recomputed: Mapping[str, str]) -> None:
        self.names, self.recomputed = names, recomputed
        # The optimizer's own values with their versions, by group and name.
        self._ours: dict[tuple[int, str], tuple[Tensor, int]] = {}

    def record(self, groups: list[Group]) -> None:
        """Record the present values as the optimizer's own."""
        items = [(i, name, group[name]) for i, group in enumerate(groups) for name in self.names]
        self._ours = {(i, name): (number, number._version) for i, name, number in items}

    def forget(self) -> None:
        """Forget the record: the next values come from a checkpoint, not from the user."""
        self._ours = {}

    def adopt(self, groups: list[Group], cls: str) -> None:
        """Take over numbers that were set by hand, in all groups.

        Raises ValueError for a number that every step recomputes, for groups that differ, and for
        a d that is not positive.
        """
        for name in self.names:
            written = [
                group[name] for i, group in enumerate(groups) if self._is_by_hand(i, group, name)
            ]
            if not written:
                continue
            if name in self.recomputed:
                raise ValueError(
                    f'{cls} computes group["{name}"] anew in every step and would not use what was '
                    f"written there; set {self.recomputed[name]} instead"
                )
            known = [v for v in written if not isinstance(v, Tensor) or v.device.type == "cpu"]
            for value in known:
                _require_valid(name, float(value))
            if any(value != known[0] for value in known):
                raise ValueError(
                    f"{name} must be the same in all groups, as they share one estimate; "
                    f"got {', '.join(str(float(value)) for value in known)}"
                )
            self._give(groups, name, written[0])

    def _is_by_hand(self, i: int, group: Group, name: str) -> bool:
        value, ours = group[name], self._ours.get((i, name))
        if ours is None:
            return not isinstance(value, Tensor)
        return value is not ours[0] or value._version != ours[1]

    def _give(self, groups: list[Group], name: str, value: Any) -> None:
        for i, group in enumerate(groups):
            ours = self._ours.get((i, name))
            like = ours[0] if ours else _dtype_of(group)
            number = torch.as_tensor(value, dtype=like.dtype, device=like.device)
            for each in ("d", "d_max") if name == "d" and "d_max" in self.names else (name,):
                # Prodigy's d grows toward d_max, so that the caller's d has to replace both.
                group[each] = number.detach().clone()


def _dtype_of(group: Group) -> Tensor:
    """A tensor with the dtype and device of the group's learnt numbers."""
    others = (v for k, v in group.items() if isinstance(v, Tensor) and k != "lr" and v.dim() == 0)
    return next(others, torch.zeros(()))
