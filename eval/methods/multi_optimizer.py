"""One optimizer composed of several, each with its own parameters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class MultiOptimizer(Optimizer):
    """Steps all its parts and shares their parameter groups, so that one schedule drives them all.

    parts: parameters, and a function that makes an optimizer for them; parts without parameters
        are left out.
    """

    def __init__(self, *parts: tuple[list[Tensor], Callable[[list[Tensor]], Optimizer]]) -> None:
        self.parts = [make(parameters) for parameters, make in parts if parameters]
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # Loading has replaced the parts' groups by new dictionaries.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
