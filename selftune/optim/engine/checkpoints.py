"""Loading of state dicts, with checks: states keep their dtypes, missing options their values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import islice
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Group, State

NO_OPTIONS = {"params", "lr", "initial_lr", "param_names"}
METHOD = "method"  # a group's key for the name of the class, by which a state dict is recognized


def method_of(cls: type) -> str:
    """The class name in state dicts; for a user's subclass, that of its base class in selftune."""
    ours = (
        each.__name__
        for each in cls.__mro__
        if each.__module__.startswith("selftune.") and not inspect.isabstract(each)
    )
    return next(ours, cls.__name__)


def require_state_dict(given: Any) -> None:
    """Raise ValueError for anything but an optimizer's state dict."""
    needed = {"state", "param_groups"}
    if isinstance(given, Mapping) and needed <= given.keys():
        return
    remedy = "pass what optimizer.state_dict() returned"
    if isinstance(given, torch.optim.Optimizer):
        what, remedy = f"the optimizer {type(given).__name__}", "pass its state_dict()"
    elif isinstance(given, Mapping):
        contents: dict[Any, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
        what = f"a dict with the keys {_first(contents)}" if contents else "an empty dict"
        for key, value in contents.items():
            if isinstance(value, Mapping) and needed <= value.keys():
                remedy = f"if this is the whole checkpoint, pass checkpoint[{key!r}]"
                break
    elif isinstance(given, str | PathLike):
        what, remedy = f"the path {str(given)!r}", f"{remedy}, as torch.load(path) reads it"  # pyright: ignore[reportUnknownArgumentType]
    else:
        what = f"an object of type {type(given).__name__}"
    raise ValueError(f"load_state_dict() takes an optimizer's state dict, got {what}: {remedy}")


def _first(keys: Iterable[Any]) -> str:
    """The first three keys as a text."""
    shown = [repr(key) for key in islice(keys, 4)]
    return ", ".join(shown[:3] + ["..."] * (len(shown) > 3))


@contextmanager
def restoring(
    optimizer: torch.optim.Optimizer, fresh: Callable[[Tensor, Group], State]
) -> Generator[None]:
    """Inside, the optimizer's `load_state_dict` keeps the dtypes of our state.

    torch casts every state to its parameter's dtype.
    fresh: makes the state of a parameter that has not stepped; a loaded state gets its dtypes.
    """
    before = optimizer.param_groups
    loaded: dict[str, Any] = {}

    def remember(_: Any, state_dict: dict[str, Any]) -> None:
        for group in state_dict["param_groups"]:
            _require_method(method_of(type(optimizer)), group)
        loaded.update(state_dict)

    def restore(_: Any) -> None:
        for group, old in zip(optimizer.param_groups, before, strict=True):
            _complete(group, old)
        saved = [i for group in loaded["param_groups"] for i in group["params"]]
        present = [(group, p) for group in optimizer.param_groups for p in group["params"]]
        for i, (group, p) in zip(saved, present, strict=True):
            state = loaded["state"].get(i)
            if state:
                new = fresh(p, group)
                _require_fitting(method_of(type(optimizer)), loaded, i, new)
                optimizer.state[p] = like(new, state)

    # The last hook before loading, after any user's hook has changed the dict, and the first one
    # after it, so that users' hooks see the completed state.
    hooks = (
        optimizer.register_load_state_dict_pre_hook(remember),
        optimizer.register_load_state_dict_post_hook(restore, prepend=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _complete(group: Group, old: Group) -> None:
    """Keep `compile`, the device of learnt numbers, and options that the loaded group lacks."""
    group["compile"] = old["compile"]
    for name, value in old.items():
        present = group.setdefault(name, value)
        if isinstance(value, Tensor) and name != "lr":
            group[name] = torch.as_tensor(present, dtype=value.dtype, device=value.device)


def _require_method(name: str, group: Group) -> None:
    """Raise ValueError for a loaded group of another method.

    Our groups name their method; those of older versions only have `train_mode`. A group with
    options and neither of the two comes from torch or another package. So does a group with
    `weight_lr_power`, an option of schedulefree and pytorch_optimizer that ours never had.
    """
    theirs = group.get(METHOD)
    is_old = "train_mode" in group and "weight_lr_power" not in group
    if theirs is None and not is_old and not group.keys() <= NO_OPTIONS:
        # In torch only Adam and AdamW have the option amsgrad, and Adam's decay is not decoupled.
        is_adamw = group.get("amsgrad") is False and group.get("decoupled_weight_decay", True)
        if name != "AdamW" or not is_adamw or group.get("maximize", True):
            theirs = "another optimizer"
    if theirs not in (None, name):
        raise ValueError(
            f"the loaded state is that of {theirs}, not of {name}: a run goes on with the method "
            "that it began with; to change it, load the model alone"
        )


def _require_fitting(name: str, loaded: dict[str, Any], i: int, fresh: State) -> None:
    """Raise ValueError if a loaded state does not have the tensors and shapes of a fresh one."""
    state: State = loaded["state"][i]
    needed = {name: value for name, value in fresh.items() if isinstance(value, Tensor)}
    needed.pop("compensation", None)  # missing if the run began in a wider dtype
    group = next(group for group in loaded["param_groups"] if i in group["params"])
    missing = sorted(needed.keys() - state.keys())
    others = {name for name, value in state.items() if isinstance(value, Tensor)}
    others -= {*fresh, "compensation"}
    if missing or (others and METHOD not in group):
        what = f"lacks {missing}" if missing else f"has {sorted(others)}"
        raise ValueError(f"the loaded state is another method's, not {name}'s: it {what}")
    for tensor, own in needed.items():
        require_shape(state[tensor], own, tensor, _label(group, i))


def require_shape(tensor: Any, own: Tensor, name: str, label: str) -> None:
    """Raise ValueError if a state's tensor does not have the shape it should have."""
    if tuple(tensor.shape) != tuple(own.shape):
        raise ValueError(
            f"the state {name!r} of {label} has the shape {tuple(tensor.shape)}, but should have "
            f"{tuple(own.shape)}: it is that of another model, or was not changed with the "
            "parameter; change all of a parameter's state, or delete it from optimizer.state"
        )


def _label(group: Group, i: int) -> str:
    names = group.get("param_names")
    return f"parameter {i}" if names is None else f"{names[group['params'].index(i)]!r}"


def copied(value: Any) -> Any:
    """A copy of a state dict's value, so that optimizers which load it do not share tensors."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def like(fresh: State, state: State) -> State:
    """A loaded state with the names, dtypes and devices of a fresh one, which fills in the rest."""
    return {name: _as(value, state.get(name, value)) for name, value in fresh.items()}


def _as(own: Any, value: Any) -> Any:
    if isinstance(own, Tensor):
        return value.to(device=own.device, dtype=own.dtype, copy=True)
    return type(own)(value)
