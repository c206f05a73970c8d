"""The base class of this package's update rules, which handle one parameter at a time."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

State = dict[str, Any]
Group = dict[str, Any]


class Rule(Optimizer):
    """An update rule: the state of a parameter, and its update in a step.

    For rules that neither torch nor selftune.optim has: slow, plain and close to their sources.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], **options: Any) -> None:
        super().__init__(params, options)

    @abstractmethod
    def init_state(self, p: Tensor) -> State:
        """The state of `p` before its first step."""

    @abstractmethod
    def update(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        """Update `p` in place; state["step"] is the number of this step, from 1."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state.update(step=0, **self.init_state(p))
                    state["step"] += 1
                    self.update(p, p.grad, state, group)
        return loss


def clip_before_steps(optimizer: Optimizer, max_norm: float) -> None:
    """Before every step, scale all gradients so that their norm is at most `max_norm`."""
    params = [p for group in optimizer.param_groups for p in group["params"]]

    def clip(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(params, max_norm)

    optimizer.register_step_pre_hook(clip)
