"""The optimizers that are compared, and what is asked of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class Subject:
    """package: how its lines in a script are found: `wire_<package>`."""

    package: str
    name: str
    options: dict[str, Any]

    @property
    def optimizer(self) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.package), self.name)

    def make(self, params: Any) -> Any:
        return self.optimizer(params, **self.options)


SUBJECTS = (
    Subject("selftune", "SelfTune", {}),
    Subject("selftune", "ScheduleFreeAdamW", {"lr": 0.05, "warmup_steps": 8}),
    Subject("schedulefree", "AdamWScheduleFree", {"lr": 0.05, "warmup_steps": 8}),
    Subject("prodigyopt", "Prodigy", {}),
)


@dataclass(frozen=True)
class Outcome:
    """What one framework made of one optimizer.

    judged: validation loss is that of the evaluation weights.
    best: so are the weights that the framework kept as the best, and the step they are from.
    saved: so are the weights in a checkpoint of mid-run.
    resumed: a run that goes on from it ends where the uninterrupted run does, bit for bit.
    logged: the effective step size is in the framework's logs.
    """

    judged: bool
    best: bool
    saved: bool
    resumed: bool
    logged: bool

    def __iter__(self) -> Any:
        return iter(astuple(self))
