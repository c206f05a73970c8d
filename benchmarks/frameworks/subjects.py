"""The optimizers that are compared, and the outcomes that are checked."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class Subject:
    """An optimizer. Its lines in a script are those of the functions `wire_<package>...`."""

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
    """Whether one framework handles one optimizer correctly.

    validated: the validation loss is that of the evaluation weights.
    best: the framework kept the evaluation weights of the best step.
    saved: a checkpoint in mid-run holds the evaluation weights.
    resumed: a run resumed from it ends where the uninterrupted run does, bit for bit.
    logged: the effective step size is in the framework's logs.
    """

    validated: bool
    best: bool
    saved: bool
    resumed: bool
    logged: bool

    def __iter__(self) -> Any:
        return iter(astuple(self))
