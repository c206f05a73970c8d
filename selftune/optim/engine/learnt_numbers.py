"""Numbers that are estimated from all gradients: 0-d tensors in the groups, on the device.

There is one estimate for all groups, and each group holds it under the same name. A new value is a
new tensor, so that one kept in a log or a checkpoint does not change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Group
from selftune.optim.engine.options import require

# What begins at d0; everything else begins at 0.
DISTANCES = ("d", "d_max")


def add(groups: list[Group], names: Iterable[str]) -> None:
    """Give the newest group its own copies of the estimated numbers.

    A group added later takes over the present value. Each is a 0-d tensor where the group's
    parameters are, float64 for float64 parameters. Groups without parameters keep theirs where
    another one's parameters are.
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
    """Give all groups the new values."""
    for group in groups:
        for name, number in numbers.items():
            group[name] = number.to(group[name])


def clear(groups: list[Group], names: Iterable[str]) -> None:
    """Begin the estimate anew, but for what a caller has written as a plain number."""
    for name in names:
        for group in groups:
            if isinstance(group[name], Tensor):
                group[name] = torch.full_like(group[name], _start(group, name))


def check(groups: list[Group], names: Iterable[str]) -> None:
    """Raise ValueError for a number that is none, or a d that is not positive. The host waits."""
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
    """Numbers that a caller has written into the groups in place of learnt ones.

    made: numbers that a step makes anew before it uses them, and what to set in their place.
    """

    def __init__(self, names: Sequence[str], made: Mapping[str, str]) -> None:
        self.names, self.made = names, made
        self._ours: dict[tuple[int, str], tuple[Tensor, int]] = {}  # and their versions

    def sign(self, groups: list[Group]) -> None:
        """Remember the present values as those of the optimizer."""
        items = [(i, name, group[name]) for i, group in enumerate(groups) for name in self.names]
        self._ours = {(i, name): (number, number._version) for i, name, number in items}

    def forget(self) -> None:
        """Consider the next values the optimizer's own: they come from a checkpoint."""
        self._ours = {}

    def adopt(self, groups: list[Group], cls: str) -> None:
        """Make what was written by hand the estimate of all groups.

        Raises ValueError for a number that no step would read, for groups that differ, and for a d
        that is not positive.
        """
        for name in self.names:
            written = [
                group[name] for i, group in enumerate(groups) if self._is_by_hand(i, group, name)
            ]
            if not written:
                continue
            if name in self.made:
                raise ValueError(
                    f'{cls} computes group["{name}"] anew in every step and would not use what was '
                    f"written there; set {self.made[name]} instead"
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
                # Prodigy's d follows the largest estimate so far, which the caller's d replaces.
                group[each] = number.detach().clone()


def _dtype_of(group: Group) -> Tensor:
    """A tensor of the type and on the device of the group's learnt numbers."""
    others = (v for k, v in group.items() if isinstance(v, Tensor) and k != "lr" and v.dim() == 0)
    return next(others, torch.zeros(()))
