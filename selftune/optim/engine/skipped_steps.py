"""Skipping of steps in which a gradient is not finite, without waiting for an accelerator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Cohort, Group
from selftune.optim.engine.remarks import remark
from selftune.tensor_list import TensorList


class Verdict:
    """Whether a step is skipped.

    On a CPU the host knows at once. On an accelerator the host would have to wait for the answer.
    Instead the step runs with each write masked by `ok`, the answer is copied to the host
    meanwhile, and one step later the host restores the counts if the step was skipped.
    """

    ok: Tensor | None = None  # 0-d boolean on the device; None if the host knows at once
    skipped: bool = False  # only if the host knows at once
    arrival: torch.Event | None = None  # recorded when `ok` is on the host

    def __init__(self, finite: Tensor, stepping: Sequence[Cohort], groups: list[Group]) -> None:
        ok = finite.isfinite()
        if known_at_once(ok):
            self.skipped = not ok
        else:
            self.ok = ok
        self.counts = [(cohort, cohort.counts) for cohort in stepping]
        self.learnt = [
            (group, name, number)
            for group in groups
            for name, number in group.items()
            if isinstance(number, Tensor) and name != "lr"
        ]

    def restore_learnt_numbers(self) -> None:
        """After the step: restore learnt numbers that are not finite, or all if it was skipped.

        Also starts the copy of `ok` to the host.
        """
        restored: dict[tuple[int, int], Tensor] = {}  # groups may share a number
        for group, name, old in self.learnt:
            number: Tensor = group[name]
            if number is old:
                continue
            if (id(number), id(old)) not in restored:
                keep = number.isfinite()
                if self.ok is not None:
                    keep = keep & self.ok.to(number.device)
                restored[id(number), id(old)] = torch.where(keep, number, old)
            group[name] = restored[id(number), id(old)]
        if self.ok is not None and not self.ok.is_cpu and not self.ok.is_meta:
            answer = torch.empty((), dtype=torch.bool, pin_memory=True)
            answer.copy_(self.ok, non_blocking=True)
            self.arrival = torch.Event(device=self.ok.device)
            self.arrival.record()
            self.ok = answer

    def restore_counts(self) -> bool:
        """A step later: restore the counts if the step was skipped. Returns whether it was not."""
        if self.arrival is not None:
            self.arrival.synchronize()  # recorded a step ago, so there is nothing to wait for
        if self.ok is None or self.ok.is_meta or self.ok:
            return True
        for cohort, counts in self.counts:
            cohort.set_counts(counts)
        return False


def known_at_once(tensor: Tensor) -> bool:
    """Whether the host can read a number without waiting."""
    return tensor.is_cpu


def finiteness(grad: TensorList) -> Tensor:
    """A 0-d tensor that is finite if all gradients and their squares are.

    On a CPU it is the sum of squares, which is fastest. The sum may overflow though no square does:
    the optimizer then checks again. On an accelerator it could not, so the largest element is used.
    """
    return grad.rough_sum_of_squares() if known_at_once(grad.tensors[0]) else grad.none_or_nan()


def count_skip(name: str, groups: list[Group]) -> None:
    """Count a skipped step in every parameter group, and warn of the first one."""
    if groups[0]["skipped_steps"] == 0:
        remark(
            f"{name} skipped a step: a gradient, its square, or a needed loss was not finite. "
            'Further ones are counted in param_groups[0]["skipped_steps"], and reported when 10 of '
            "them come in a row."
        )
    for group in groups:
        group["skipped_steps"] += 1
