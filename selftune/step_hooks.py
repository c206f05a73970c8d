"""Step hooks that are not called for the steps that an optimizer skips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler


def _nothing() -> None:
    pass


class StepHooks:
    """Step hooks on one optimizer, until `remove`.

    A step that a GradScaler or the optimizer skips, because a gradient was not finite, is not
    reported. On an accelerator the host learns only later whether a step was skipped: `made` is
    then called before the next step, or in `settle`, while the weights are still the same. This
    delayed call was tested on the CPU only, with mock devices.

    made: called after each step that was not skipped.
    before: called before each step.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        made: Callable[[], None],
        before: Callable[[], None] = _nothing,
    ) -> None:
        optimizer = innermost_optimizer(optimizer)
        self._before, self._made = before, made
        self._optimizer: torch.optim.Optimizer | None = optimizer  # until `remove`
        self._found_inf: _HostCopy | None = None
        self._skipped_before = skipped_steps(optimizer)
        self._waiting = False
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def remove(self) -> None:
        """Remove the hooks. What they referred to is not kept in memory by this object."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.settle()
        self._optimizer = None
        self._before = self._made = _nothing

    @property
    def active(self) -> bool:
        return bool(self._hooks)

    def settle(self) -> None:
        """Report the last step now, if it was not yet known whether it was skipped."""
        if not self._waiting or self._optimizer is None:
            return
        self._waiting = False
        settle = getattr(self._optimizer, "settle", None)  # selftune's own optimizers have it
        if settle is not None:
            settle()
        skipped = self._found_inf is not None and self._found_inf.read()
        if not skipped and skipped_steps(self._optimizer) == self._skipped_before:
            self._made()

    @torch.compiler.disable()
    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.settle()
        self._before()
        self._skipped_before = skipped_steps(optimizer)

    @torch.compiler.disable()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        # GradScaler sets this while a fused optimizer steps, which has to skip the step itself.
        found_inf = getattr(optimizer, "found_inf", None)
        self._found_inf = None if found_inf is None else _HostCopy(found_inf)
        self._waiting = True
        if not _is_known_later(optimizer, found_inf):
            self.settle()


def innermost_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside the wrappers of accelerate and others.

    Raises ValueError for anything else, schedulers included.
    """
    inner = optimizer
    while not isinstance(inner, LRScheduler) and isinstance(
        getattr(inner, "optimizer", None), torch.optim.Optimizer
    ):
        inner = inner.optimizer
    if not isinstance(inner, torch.optim.Optimizer):
        raise ValueError(f"expected a torch optimizer, got a {type(optimizer).__name__}")
    return inner


class _HostCopy:
    """A number that is being copied to the host without waiting for the device."""

    def __init__(self, number: Tensor) -> None:
        self._number, self._event = number, None
        if number.device.type != "cpu":
            self._number = torch.empty((), dtype=number.dtype, pin_memory=True)
            self._number.copy_(number.detach().reshape(()), non_blocking=True)
            self._event = torch.Event(device=number.device)
            self._event.record()

    def read(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._number)


def _is_known_later(optimizer: torch.optim.Optimizer, found_inf: Tensor | None) -> bool:
    if found_inf is not None:
        return found_inf.device.type != "cpu"
    params = (p for group in optimizer.param_groups for p in group["params"])
    return hasattr(optimizer, "settle") and any(p.device.type != "cpu" for p in params)


def skipped_steps(optimizer: torch.optim.Optimizer) -> int:
    """How many steps an optimizer of selftune has skipped so far; 0 for any other optimizer."""
    return optimizer.param_groups[0].get("skipped_steps", 0)


def steps_made(optimizer: torch.optim.Optimizer) -> int | None:
    """The number of steps in an optimizer's state; None if it keeps no count."""
    names = ("step", "schedule_free_step")
    counts = [state[n] for state in optimizer.state.values() for n in names if n in state]
    return max(map(int, counts), default=None)
