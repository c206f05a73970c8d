"""Loading state dicts: states keep their own dtypes, and missing options get their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Group, State

NO_OPTIONS = {"params", "lr", "initial_lr", "param_names"}
METHOD = "method"  # the key of a group that names the class: a state dict says whose it is


def method_of(cls: type) -> str:
    """The name under which a class saves: of a user's subclass, that of the class of ours."""
    ours = (
        each.__name__
        for each in cls.__mro__
        if each.__module__.startswith("selftune.") and not inspect.isabstract(each)
    )
    return next(ours, cls.__name__)


@contextmanager
def restoring(
    optimizer: torch.optim.Optimizer, fresh: Callable[[Tensor, Group], State]
) -> Generator[None]:
    """Inside, the optimizer's `load_state_dict` loads our state as it was saved.

    torch casts every state to its parameter's dtype. Ours has the dtype which `fresh` gives it:
    the state of a parameter that has not stepped.
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

    # As the last hook before, and the first one after: other hooks see what they expect.
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
    """Keep `compile`, the device of estimates, and options that the loaded group lacks."""
    group["compile"] = old["compile"]
    for name, value in old.items():
        present = group.setdefault(name, value)
        if isinstance(value, Tensor) and name != "lr":
            group[name] = torch.as_tensor(present, dtype=value.dtype, device=value.device)


def _require_method(name: str, group: Group) -> None:
    """Raise ValueError for a loaded group that is another method's.

    Our groups name their method; those of older versions have only `train_mode`. A group that has
    options and neither of them is torch's or another package's; so is one with an option of
    schedulefree's that ours never had, as pytorch_optimizer's have.
    """
    theirs = group.get(METHOD)
    is_old = "train_mode" in group and "weight_lr_power" not in group
    if theirs is None and not is_old and not group.keys() <= NO_OPTIONS:
        # Of torch's groups only those of AdamW and Adam have an amsgrad, and Adam's decay with the
        # gradient.
        is_adamw = group.get("amsgrad") is False and group.get("decoupled_weight_decay", True)
        if name != "AdamW" or not is_adamw or group.get("maximize", True):
            theirs = "another optimizer"
    if theirs not in (None, name):
        raise ValueError(
            f"the loaded state is that of {theirs}, not of {name}: a run goes on with the method "
            "that it began with; to change it, load the model alone"
        )


def _require_fitting(name: str, loaded: dict[str, Any], i: int, fresh: State) -> None:
    """Raise ValueError where the loaded state is not one of these tensors, in these shapes."""
    state: State = loaded["state"][i]
    needed = {name: value for name, value in fresh.items() if isinstance(value, Tensor)}
    needed.pop("compensation", None)  # compensation: a wider type was not rounded
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
    """Raise ValueError for a state that is not of its parameter's shape."""
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
    """A copy of a value of a state dict, which others may load too."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def like(fresh: State, state: State) -> State:
    """The names and types of a new state, with the loaded values where there are any."""
    return {name: _as(value, state.get(name, value)) for name, value in fresh.items()}


def _as(own: Any, value: Any) -> Any:
    if isinstance(own, Tensor):
        return value.to(device=own.device, dtype=own.dtype, copy=True)
    return type(own)(value)
