"""Checks before and after each step: changed options, skipped steps, idle steps, state shapes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from selftune.optim.engine.checkpoints import require_shape
from selftune.optim.engine.options import is_about_1, is_number
from selftune.optim.engine.remarks import remark
from selftune.optim.engine.unused_average import ENOUGH_STEPS, expect_use
from selftune.step_hooks import skipped_steps

# The lr of a Schedule-Free method that is below this fraction of its peak counts as decaying.
DECAYED = 0.9
# A warning comes after so many steps in a row that were skipped, or in which no parameter had a
# gradient. For skipped steps it comes again after 100, 1,000 and so on.
IN_A_ROW = 10


def guarded(step: Callable[..., None]) -> Callable[..., None]:
    """Decorator for an optimizer's `_step`, which adds the checks before and after it."""

    @functools.wraps(step)
    def guarded_step(optimizer: Any, *args: Any) -> None:
        guard = guard_of(optimizer)
        guard.look_at_options(optimizer)
        guard.look_at_max_lr(optimizer)
        try:
            step(optimizer, *args)
        except RuntimeError:
            _raise_for_misfit(optimizer)
            raise
        guard.look_at_skips(optimizer)
        guard.look_for_gradients(optimizer)
        guard.count(optimizer)

    return guarded_step


def guard_of(optimizer: Any) -> Guard:
    attributes: dict[str, Any] = optimizer.__dict__
    if "_guard" not in attributes:
        attributes["_guard"] = Guard(optimizer)
    return attributes["_guard"]


def steps_without_gradients(optimizer: Any) -> int:
    """How many of the latest steps in a row found no gradient; 0 for optimizers not of ours."""
    guard = getattr(optimizer, "_guard", None)
    return guard.without_gradients if isinstance(guard, Guard) else 0


class Guard:
    """What the checks remember of an optimizer from step to step."""

    def __init__(self, optimizer: Any) -> None:
        self.options: list[list[Any]] = []
        self.peaks: list[float] = []
        self.has_remarked = False
        self.skipped = skipped_steps(optimizer)
        self.in_a_row = 0
        self.next_report = IN_A_ROW
        self.without_gradients = 0  # steps in a row
        self.steps = 0

    def look_at_options(self, optimizer: Any) -> None:
        """Raise ValueError if an option was set to an invalid value since the last step."""
        groups: list[dict[str, Any]] = optimizer.param_groups
        options = [
            [len(g), *(g.get(name) for name in optimizer.defaults if name != "lr")] for g in groups
        ]
        for i, group in enumerate(groups):
            lr = group["lr"]
            if not is_number(lr) or not 0 <= float(lr) < math.inf or options != self.options:
                try:
                    optimizer.check_group(group)
                except ValueError as error:
                    raise ValueError(f"{error} (in param_groups[{i}])") from None
        self.options = options
        if optimizer.averages and not self.has_remarked:
            self._look_for_decay(type(optimizer).__name__, [float(g["lr"]) for g in groups])

    def look_at_max_lr(self, optimizer: Any) -> None:
        """Before the first step: warn of the peak of torch's OneCycleLR, if it is far from 1."""
        if self.steps or not getattr(optimizer, "finds_step_size", False):
            return
        for i, group in enumerate(optimizer.param_groups):
            peak = group.get("max_lr")  # what OneCycleLR writes into the groups
            if is_number(peak) and not is_about_1(float(peak)):
                name = type(optimizer).__name__
                remark(
                    f"{name} finds its own step size, which lr multiplies: give OneCycleLR "
                    f"max_lr=1; param_groups[{i}] has max_lr={float(peak):g}"
                )
                return

    def _look_for_decay(self, name: str, lrs: list[float]) -> None:
        if len(self.peaks) != len(lrs):
            self.peaks = lrs
        self.peaks = list(map(max, self.peaks, lrs))
        for i, (lr, peak) in enumerate(zip(lrs, self.peaks, strict=True)):
            if 0 < lr < DECAYED * peak:
                self.remark_on_decay(
                    f"{name} averages in the place of a decaying schedule, but the lr of "
                    f"param_groups[{i}] has gone down from {peak:g} to {lr:g}: leave it at its "
                    "peak after the warm-up"
                )

    def remark_on_decay(self, message: str) -> None:
        """Warn of a decaying lr, once for each optimizer."""
        if not self.has_remarked:
            self.has_remarked = True
            remark(message)

    def look_at_skips(self, optimizer: Any) -> None:
        """Warn of steps that are skipped one after the other, as then the model does not train."""
        before, self.skipped = self.skipped, skipped_steps(optimizer)
        self.in_a_row = self.in_a_row + 1 if self.skipped > before else 0
        if not self.in_a_row:
            self.next_report = IN_A_ROW
        if self.in_a_row == self.next_report:
            self.next_report *= 10
            remark(
                f"{type(optimizer).__name__} has skipped {self.in_a_row} steps in a row, and "
                "learns nothing: gradients are not finite. torch.autograd.set_detect_anomaly "
                "finds where they come from; weights that are not finite have to be restored"
            )

    def look_for_gradients(self, optimizer: Any) -> None:
        """Warn if no parameter has had a gradient for steps: the model's may be other tensors."""
        groups = [group["params"] for group in optimizer.param_groups]
        is_idle = any(groups) and all(p.grad is None for params in groups for p in params)
        is_idle = is_idle and not getattr(optimizer, "is_wrapped", False)  # the wrapper warns
        self.without_gradients = self.without_gradients + 1 if is_idle else 0
        if self.without_gradients == IN_A_ROW:
            remark(
                f"no parameter of {type(optimizer).__name__} had a gradient in {IN_A_ROW} steps "
                "in a row, which did nothing: if the model was given new parameters after the "
                "optimizer was made, as by load_state_dict(assign=True), make the optimizer after "
                "that"
            )

    def count(self, optimizer: Any) -> None:
        """Count a step; after enough of them, arrange for a warning if no average is ever used."""
        self.steps += 1
        if self.steps == ENOUGH_STEPS and optimizer.averages and not optimizer.attachments:
            expect_use(type(optimizer).__name__, optimizer._now.average)


def _raise_for_misfit(optimizer: Any) -> None:
    """After an error in torch: raise ValueError if a state has not the shape or dtype it should."""
    for g, group in enumerate(optimizer.param_groups):
        for i, p in enumerate(group["params"]):
            fitting, present = optimizer.fitting_state(p, group)
            for name, own in fitting.items():
                if isinstance(own, Tensor) and isinstance(present.get(name), Tensor):
                    require_shape(present[name], own, name, _label(g, i))
            if present and not _fits_dtype(fitting, present):
                dtype = str(p.dtype).removeprefix("torch.")
                raise ValueError(
                    f"the state of {_label(g, i)} is not that of a parameter of dtype {dtype}, "
                    "which model.to(...) may have made it: make the optimizer after that, or load "
                    "its state again, optimizer.load_state_dict(optimizer.state_dict())"
                )


def _label(group: int, i: int) -> str:
    return f"param_groups[{group}]['params'][{i}]"


def _fits_dtype(fitting: dict[str, Any], present: dict[str, Any]) -> bool:
    if ("compensation" in fitting) != ("compensation" in present):  # 16-bit parameters have it
        return False
    tensors = {name: own for name, own in fitting.items() if isinstance(own, Tensor)}
    return all(present[name].dtype == own.dtype for name, own in tensors.items() if name in present)
