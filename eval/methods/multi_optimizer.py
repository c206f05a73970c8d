"""One optimizer of several, each for parameters of its own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class MultiOptimizer(Optimizer):
    """Steps all its parts. Its groups are theirs, so that one schedule serves all of them.

    parts: parameters and what makes an optimizer of them; a part without parameters is left out.
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
        # They put new dictionaries in the place of their groups.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
