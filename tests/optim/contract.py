"""Shared by the suites over every public optimizer: the classes, a noisy bowl, equality."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.conformance import problem
from selftune import optim
from selftune.optim.engine import compiled

# A class exported by selftune.optim is under test.
CLASSES = [
    value
    for value in vars(optim).values()
    if inspect.isclass(value)
    and issubclass(value, optim.Optimizer)
    and value is not optim.Optimizer
]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
# ScheduleFree keeps what does not depend on the base: how state looks, what options are refused.
WRAPPED = [problem.AroundTorchs, problem.AroundOurs]
every_optimizer = pytest.mark.parametrize("cls", CLASSES + WRAPPED, ids=lambda cls: cls.__name__)

# The noisy bowl of the conformance checks.
SHAPES, weights, twins = problem.SHAPES, problem.weights, problem.twins
backward, train = problem.give_gradients, problem.train
take_step, loss_for, same = problem.take_step, problem.loss_for, problem.same


def with_decay(cls: type) -> dict[str, float]:
    return {"weight_decay": 0.1} if "weight_decay" in inspect.signature(cls).parameters else {}


def snapshot(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> Any:
    return copy.deepcopy((params, optimizer.state_dict()))


def without_code_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs and flat parameters as for compiled rules, which are then run as they are."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(compiled, "is_compiling", lambda: True)
