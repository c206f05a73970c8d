"""What an optimizer around another one needs to look like one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch.optim.optimizer as torch_optimizer
from torch import Tensor

from selftune.optim.engine.cohorts import State

OWN = "schedule_free_"  # marks the names of our part of a parameter's state


class BothStates(Mapping[Tensor, State]):
    """The state of the base and of what wraps it, as one state."""

    def __init__(self, base: Mapping[Tensor, State], own: Mapping[Tensor, State]) -> None:
        self.base, self.own = base, own

    def __getitem__(self, p: Tensor) -> State:  # an empty one where there is none, as in torch
        own = {OWN + name: value for name, value in self.own.get(p, {}).items()}
        return {**self.base.get(p, {}), **own}

    def __contains__(self, p: object) -> bool:
        return p in self.base or p in self.own

    def __iter__(self) -> Iterator[Tensor]:
        return iter(dict.fromkeys((*self.base, *self.own)))

    def __len__(self) -> int:
        return len(dict.fromkeys((*self.base, *self.own)))


@contextmanager
def without_gradients(params: Sequence[Tensor]) -> Generator[None]:
    grads = [p.grad for p in params]
    for p in params:
        p.grad = None
    try:
        yield
    finally:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad


@contextmanager
def without_global_hooks() -> Generator[None]:
    """torch's hooks for the steps of all optimizers run around our step, and not again inside."""
    names = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
    kept = [getattr(torch_optimizer, name) for name in names]
    for name in names:
        setattr(torch_optimizer, name, OrderedDict())
    try:
        yield
    finally:
        for name, hooks in zip(names, kept, strict=True):
            setattr(torch_optimizer, name, hooks)
