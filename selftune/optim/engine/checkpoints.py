"""Loading a state dict: ours keeps its own types, and what an older one lacks has its default."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Group, State


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
        loaded.update(state_dict)

    def restore(_: Any) -> None:
        for group, old in zip(optimizer.param_groups, before, strict=True):
            _complete(group, old)
        saved = [i for group in loaded["param_groups"] for i in group["params"]]
        present = [(group, p) for group in optimizer.param_groups for p in group["params"]]
        for i, (group, p) in zip(saved, present, strict=True):
            state = loaded["state"].get(i)
            if state:
                optimizer.state[p] = like(fresh(p, group), state)

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
    """Keep how to run, where estimates live, and what the loaded group does not have."""
    group["compile"] = old["compile"]
    for name, value in old.items():
        present = group.setdefault(name, value)
        if isinstance(value, Tensor) and name != "lr":
            group[name] = torch.as_tensor(present, dtype=value.dtype, device=value.device)


def like(fresh: State, state: State) -> State:
    """The names and types of a new state, with the loaded values where there are any."""
    return {name: _as(value, state.get(name, value)) for name, value in fresh.items()}


def _as(own: Any, value: Any) -> Any:
    if isinstance(own, Tensor):
        return value.to(device=own.device, dtype=own.dtype)
    return type(own)(value)
