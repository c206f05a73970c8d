"""State and hooks of ScheduleFree(base), with which two optimizers look like one."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Generator, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch.optim.optimizer as torch_optimizer
from torch import Tensor

from selftune.optim.engine.cohorts import State

OWN = "schedule_free_"  # prefix of the wrapper's own names in a parameter's state


class BothStates(MutableMapping[Tensor, State]):
    """The base's and the wrapper's state as one mapping; a name's prefix says whose it is."""

    def __init__(
        self, base: MutableMapping[Tensor, State], own: MutableMapping[Tensor, State]
    ) -> None:
        self.base, self.own = base, own

    def __getitem__(self, p: Tensor) -> State:  # an empty one where there is none, as in torch
        return OneState(self, p)

    def __setitem__(self, p: Tensor, state: State) -> None:
        values = dict(state)
        own = {name.removeprefix(OWN): v for name, v in values.items() if name.startswith(OWN)}
        base = {name: value for name, value in values.items() if not name.startswith(OWN)}
        for home, part in ((self.base, base), (self.own, own)):
            if part:
                home[p] = part
            else:
                home.pop(p, None)

    def __delitem__(self, p: Tensor) -> None:
        if p not in self:
            raise KeyError(p)
        self.base.pop(p, None)
        self.own.pop(p, None)

    def __contains__(self, p: object) -> bool:
        return p in self.base or p in self.own

    def __iter__(self) -> Iterator[Tensor]:
        return iter(list(dict.fromkeys((*self.base, *self.own))))

    def __len__(self) -> int:
        return len(dict.fromkeys((*self.base, *self.own)))


class OneState(dict[str, Any]):
    """One parameter's state in both optimizers, as a dict whose changes are written through."""

    def __init__(self, both: BothStates, p: Tensor) -> None:
        own = {OWN + name: value for name, value in both.own.get(p, {}).items()}
        super().__init__({**both.base.get(p, {}), **own})
        self._both, self._p = both, p

    def _write(self) -> None:
        self._both[self._p] = self

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._write()

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._write()

    def update(self, *others: Any, **values: Any) -> None:
        super().update(*others, **values)
        self._write()

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        value = super().pop(name, *default)
        self._write()
        return value

    def clear(self) -> None:
        super().clear()
        self._write()

    def __reduce__(self) -> Any:  # a copy is a plain dict
        return dict, (dict(self),)

    def __deepcopy__(self, memo: Any) -> State:
        return copy.deepcopy(dict(self), memo)


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
    """Disable torch's global step hooks inside the block: they already run around our own step."""
    names = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
    kept = [getattr(torch_optimizer, name) for name in names]
    for name in names:
        setattr(torch_optimizer, name, OrderedDict())
    try:
        yield
    finally:
        for name, hooks in zip(names, kept, strict=True):
            setattr(torch_optimizer, name, hooks)
