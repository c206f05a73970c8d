"""Checks of a build function's result, in the one place where the harness calls it."""

import inspect
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import nn

from .method import Build, Built, Weights

WANTED = "return optimizer, scheduler, weights, where the last two may be None"


def built(build: Build, model: nn.Module, num_steps: int) -> Built:
    """The result of `build`. Raises TypeError, in one sentence, if it cannot be used."""
    made: Any = build(model, num_steps)
    name = getattr(build, "__name__", None) or getattr(build, "name", None) or "the method"
    if not isinstance(made, tuple | list) or len(made) != 3:
        what = "an optimizer alone" if _is_optimizer(made) else _kind(made)
        if isinstance(made, tuple | list):
            what = f"{len(made)} things"
        raise TypeError(f"{name} returned {what}; {WANTED}")
    optimizer, scheduler, weights = result = cast(Built, tuple(made))
    if not _is_optimizer(optimizer):
        raise TypeError(f"{name} returned {_kind(optimizer)} for an optimizer; {WANTED}")
    own = set(map(id, model.parameters()))
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise TypeError(
            f"{name} returned an optimizer that holds none of the model's parameters; make it from "
            "the parameters of the model that the function is given"
        )
    if scheduler is not None:
        if not callable(getattr(scheduler, "step", None)):
            raise TypeError(f"{name} returned {_kind(scheduler)} for a scheduler; {WANTED}")
        needed = _required(scheduler.step)
        if needed:
            raise TypeError(
                f"{name} returned a {type(scheduler).__name__}, whose step() requires {needed[0]}; "
                "step() is called without arguments here, so return a scheduler that needs none"
            )
        driven = getattr(scheduler, "optimizer", None)
        groups = driven.param_groups if isinstance(driven, torch.optim.Optimizer) else []
        if groups and not {*map(id, groups)} & {*map(id, optimizer.param_groups)}:
            raise TypeError(
                f"{name} returned a scheduler of an optimizer other than the one it returned"
            )
    if weights is None and getattr(optimizer, "averages", False):
        raise TypeError(
            f"{name} returned no evaluation weights, but {type(optimizer).__name__} evaluates at "
            "an average; return optimizer.evaluation_weights, or contextlib.nullcontext to "
            "evaluate the training weights"
        )
    if weights is not None and (
        hasattr(type(weights), "__enter__") or isinstance(weights, torch.Tensor)
    ):
        raise TypeError(
            f"{name} returned {_kind(weights)} for its evaluation weights, which can be entered "
            "only once; return a function that makes one, such as optimizer.evaluation_weights"
        )
    if weights is not None and not callable(weights):
        raise TypeError(
            f"{name} returned {_kind(weights)} for its evaluation weights; return a function that "
            "returns a context, such as optimizer.evaluation_weights, or None"
        )
    return result


def entered(weights: Weights) -> AbstractContextManager[object]:
    """Call a method's evaluation weights. Raises TypeError if they are not a context manager."""
    context: Any = weights()
    if not (hasattr(type(context), "__enter__") and hasattr(type(context), "__exit__")):
        raise TypeError(
            f"the function for the evaluation weights returned {_kind(context)}; it must return a "
            "context in which the model has these weights, as optimizer.evaluation_weights does"
        )
    return context


def _is_optimizer(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("step", "zero_grad", "param_groups"))


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _required(function: Any) -> list[str]:
    """Names of the positional arguments that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function that has no Python signature
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind in positional]
