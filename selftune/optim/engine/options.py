"""Options of optimizers: their names, types and ranges, and those of other packages."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

Group = dict[str, Any]

# For `Optimizer.always`: the names that torch and other packages use for decoupled weight decay.
DECAY = ("decouple", "weight_decouple", "decoupled_weight_decay")
DECOUPLED: dict[str, Any] = dict.fromkeys(DECAY, True)
COUPLED: dict[str, Any] = dict.fromkeys(DECAY, False)
# Options of torch and of other packages that no class here has: the values that are accepted, as
# they change nothing, and what to do in place of any other value.
EVERYWHERE: dict[str, tuple[tuple[object, ...], str]] = {
    "foreach": ((None, False, True), ""),
    "fsdp_in_use": ((False, True), ""),
    "fused": ((None, False), "compile=True fuses the operations of a step where it can"),
    "maximize": ((None, False), "minimize the negative of the objective"),
    "capturable": ((None, False), "a step is not captured in a CUDA graph"),
    "differentiable": ((None, False), "a step is not differentiated"),
    "amsgrad": ((None, False), "torch.optim.AdamW has it"),
    "nesterov": ((None, False), "NAdamW looks a step ahead"),
    "dampening": ((None, 0), ""),
    "fixed_decay": ((None, False), "weight decay is multiplied by lr"),
    "log_every": ((None, 0), "nothing is printed; the estimate is in param_groups"),
}


def own_options(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that belong to the class, out of those given to its constructor.

    Options of torch or other packages are left out if their value says what the class does anyway.
    Raises ValueError if it does not, and TypeError for an unknown name.
    """
    parameters = inspect.signature(cls).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    own: dict[str, Any] = {}
    for name, value in given.items():
        if name in parameters:
            own[name] = value
        elif name in EVERYWHERE or name in _always(cls):
            _require_as_always(cls, name, value)
        elif takes_all:
            own[name] = value
        else:
            raise TypeError(_unknown(cls, name))
    return own


def check_names(cls: type, root: type, group: Mapping[str, Any]) -> None:
    """Raise ValueError if a parameter group has an option that the class does not read.

    root: the base class; the options of all its subclasses are looked for. Other keys are allowed,
        as users may keep names and labels in a group.
    """
    own = _parameters(cls)
    for name, value in group.items():
        if name in own:
            continue
        if name in EVERYWHERE or name in _always(cls):
            _require_as_always(cls, name, value)
        elif name in options_of_all(root):
            raise ValueError(_unknown(cls, name))


def misspelt(cls: type, group: Mapping[str, Any]) -> dict[str, str]:
    """Keys of a group that are no options of the class, but nearly: the key and the option."""
    own = _parameters(cls)
    others = (name for name in group if name not in own and name not in EVERYWHERE)
    like = {name: difflib.get_close_matches(name, own, 1, cutoff=0.85) for name in others}
    return {name: options[0] for name, options in like.items() if options}


def check_types(cls: type, group: Mapping[str, Any]) -> None:
    """Raise ValueError if a group's value is not of the type of the constructor's default."""
    for name, parameter in _parameters(cls).items():
        if name not in group or parameter.default is parameter.empty:
            continue
        value, default = group[name], parameter.default
        if isinstance(default, bool):
            if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        elif isinstance(default, tuple):
            _require_pair(name, value)
        elif isinstance(default, float | int) and not is_number(value):
            raise ValueError(
                f"{name} must be a number, got {value!r}; left out, it is {default} in "
                f"{cls.__name__}"
            )
        elif default is None and not (value is None or is_number(value)):
            raise ValueError(f"{name} must be a number or None, got {value!r}")


def options_of(cls: type) -> set[str]:
    """The names of a class's options."""
    return set(_parameters(cls))


def options_of_all(root: type) -> set[str]:
    """The names of the options of all subclasses."""
    return {name for cls in _subclasses(root) for name in _parameters(cls)}


def is_number(value: object) -> bool:
    """Whether the value is a single number, of Python, NumPy or torch."""
    if isinstance(value, Tensor | np.ndarray):
        return value.size == 1 if isinstance(value, np.ndarray) else value.numel() == 1
    return isinstance(value, SupportsFloat) and not isinstance(value, bool | np.bool_ | str)


def is_about_1(lr: float) -> bool:
    """Whether an lr, or the peak of a schedule's, is a factor of a learnt step size."""
    return 0.1 <= lr <= 10


def require(condition: bool, name: str, value: object, valid: str) -> None:
    """Raise ValueError, with the option's name, value and valid range, unless the condition holds.

    valid: the range in mathematical notation, such as "[0, 1)".
    """
    if not condition:
        raise ValueError(f"{name} must lie in {valid}, got {value}")


def require_steps(group: Group, *names: str) -> None:
    """Raise ValueError unless these options are whole numbers of steps, 0 or more."""
    for name in names:
        steps = group[name]
        require(0 <= steps < math.inf and steps == int(steps), name, steps, "{0, 1, 2, ...}")


def require_nonnegative(group: Group, *names: str) -> None:
    """Raise ValueError unless these options are finite numbers, 0 or more."""
    for name in names:
        value = group[name]
        if isinstance(value, Tensor) and value.device.type != "cpu":
            raise ValueError(f"{name} in a tensor must live on the CPU, got {value.device}")
        require(0 <= float(value) < math.inf, name, value, "[0, inf)")


def _require_pair(name: str, value: Any) -> None:
    numbers: list[Any] = list(value) if isinstance(value, tuple | list) else []  # pyright: ignore[reportUnknownArgumentType]
    if len(numbers) != 2 or not all(map(is_number, numbers)):
        raise ValueError(f"{name} must be a pair of numbers, got {value!r}")


def _always(cls: type) -> Mapping[str, Any]:
    return getattr(cls, "always", {})


def _require_as_always(cls: type, name: str, value: object) -> None:
    if name in _always(cls):
        always = _always(cls)[name]
        values, instead = (always,), ""
    else:
        values, instead = EVERYWHERE[name]
        always = next(each for each in reversed(values) if each is not None)
    if any(value is each or (is_number(value) and value == each) for each in values):
        return
    raise ValueError(
        f"{name} is always {always} in {cls.__name__}, got {value!r}: leave it out"
        + (f"; {instead}" if instead else "")
    )


def _unknown(cls: type, name: str) -> str:
    options = [each for each in inspect.signature(cls).parameters if each != "params"]
    like = difflib.get_close_matches(name, options, 1)
    meant = f", or write {like[0]!r}" if like else ""
    return (
        f"{cls.__name__} has no option {name!r}: leave it out{meant}; it takes {', '.join(options)}"
    )


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The options of a class, including those that it passes on to its base class."""
    found: dict[str, inspect.Parameter] = {}
    for each in reversed(cls.__mro__):
        if issubclass(each, Optimizer) and "__init__" in vars(each):
            found.update(inspect.signature(each.__init__).parameters)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    besides = ("self", "params", "defaults")
    return {k: v for k, v in found.items() if v.kind in named and k not in besides}


def _subclasses(cls: type) -> Iterator[type]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)
