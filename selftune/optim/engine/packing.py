"""A cohort as kernels take it: large parameters as they are, small ones side by side."""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import is_sharded
from selftune.optim.engine.cohorts import Cohort, State, chunks
from selftune.optim.engine.collectives import plain, plain_grad
from selftune.optim.engine.precision import LOW_PRECISION
from selftune.tensor_list import TensorList

# From this size on a kernel's launch is small beside its work.
LARGE = 2**16
# At most this many elements to a pack. On a CPU they then stay in the cache while they are copied,
# worked on and copied back.
PACK = 2**22
PACK_ON_CPU = 2**18
# Older compilers leave out a rounding that `run` compensates, whatever their options.
KEEPS_ROUNDING = torch.__version__ >= "2.13"


class Large:
    """One contiguous parameter, taken as it is."""

    def __init__(self, p: Tensor, state: State, names: list[str]) -> None:
        self.p = p
        self.taken = Taken(p, state, names)
        tensors = {"param": plain(p), **{name: plain(state[name]) for name in names}}
        self.kept = {name: TensorList([tensor.view(-1)]) for name, tensor in tensors.items()}

    def lists(self) -> dict[str, TensorList]:
        return {**self.kept, "grad": TensorList([plain_grad(self.p).contiguous().view(-1)])}

    def fetch(self) -> None:
        pass

    def write_back(self) -> None:
        # The kernel wrote into the parameter's memory; autograd has to know.
        torch.autograd.graph.increment_version(self.p)


class Pack:
    """Small parameters side by side in one 1-D tensor.

    The members' states become views of the pack's, for good. For each step gradients are copied
    in, and parameters in and out again. The memory for that is kept, as new memory costs a CPU
    more than the copies: that of the gradients, and what all packs in turn have for parameters.
    """

    def __init__(
        self, members: list[Tensor], states: list[State], names: list[str], for_params: Tensor
    ) -> None:
        self.members = members
        first = members[0]
        self.are_plain = not is_sharded(first) and not first.is_complex()
        memory = {
            "param": for_params[: sum(p.numel() for p in self._params())],
            "grad": _side_by_side(self._grads()),
            **{name: _side_by_side([plain(state[name]) for state in states]) for name in names},
        }
        self.kept = {name: TensorList([tensor]) for name, tensor in memory.items()}
        self.params = TensorList(_split(memory["param"], self._params()))
        self.grads = TensorList(_split(memory["grad"], self._grads()))
        for name in names:
            views = _split(memory[name], [plain(state[name]) for state in states])
            for state, view in zip(states, views, strict=True):
                state[name] = _like(state[name], view)
        # Who exchanges states, to have them elsewhere for a while, exchanges those of all.
        self.taken = Taken(first, states[0], names)

    def lists(self) -> dict[str, TensorList]:
        self.grads.copy_(TensorList(self._grads()))
        return self.kept

    def fetch(self) -> None:
        self.params.copy_(TensorList(self._params()))

    def write_back(self) -> None:
        TensorList(self._params()).copy_(self.params)

    def _params(self) -> list[Tensor]:
        return self.members if self.are_plain else [plain(p) for p in self.members]

    def _grads(self) -> list[Tensor]:
        return [p.grad if self.are_plain else plain_grad(p) for p in self.members]  # pyright: ignore


def divided(cohort: Cohort) -> list[Cohort]:
    """The cohort in parts: what kernels take, each for its types, and what the list path takes."""
    alike: dict[Any, list[int]] = {}
    for i, state in enumerate(cohort.states):
        types = tuple(state[name].dtype for name in cohort.names)
        alike.setdefault((_fits(cohort, i), types), []).append(i)
    parts: list[Cohort] = []
    for (compiled, _), chosen in alike.items():
        members = [cohort.members[i] for i in chosen]
        parts.append(Cohort(cohort.group, members, [cohort.states[i] for i in chosen], compiled))
    return parts


def _fits(cohort: Cohort, i: int) -> bool:
    p, state = cohort.members[i], cohort.states[i]
    if cohort.sparse or p.is_meta or (p.dtype in LOW_PRECISION and not KEEPS_ROUNDING):
        return False
    # The list path refuses other devices; a kernel would take an address for one of its own.
    if any(state[name].device != p.device for name in cohort.names):
        return False
    # Within a pack a kernel knows no bounds, as for a number per tensor or a sample.
    shapes = {plain(state[name]).shape for name in cohort.names}
    return _is_large(cohort, i) or shapes <= {plain(p).shape}


def _is_large(cohort: Cohort, i: int) -> bool:
    p, state = cohort.members[i], cohort.states[i]
    tensors = [plain(p), *(plain(state[name]) for name in cohort.names)]
    return tensors[0].numel() >= LARGE and all(tensor.is_contiguous() for tensor in tensors)


def pieces(cohort: Cohort) -> list[Large | Pack]:
    """The cohort's parameters as kernels take them."""
    large = [_is_large(cohort, i) for i in range(len(cohort.members))]
    found: list[Large | Pack] = [
        Large(p, state, cohort.names)
        for p, state, alone in zip(cohort.members, cohort.states, large, strict=True)
        if alone
    ]
    small = [i for i, alone in enumerate(large) if not alone]
    if not small:
        return found
    sizes = [plain(cohort.members[i]).numel() for i in small]
    parts = list(chunks(sizes, PACK_ON_CPU if cohort.device.type == "cpu" else PACK))
    for_params = plain(cohort.members[0]).new_empty(max(sum(sizes[part]) for part in parts))
    for part in parts:
        members = [cohort.members[i] for i in small[part]]
        states = [cohort.states[i] for i in small[part]]
        found.append(Pack(members, states, cohort.names, for_params))
    return found


class Taken:
    """A parameter's memory, its gradient's type and its states, when a piece was made of them.

    Callers may exchange them.
    """

    def __init__(self, p: Any, state: State, names: list[str]) -> None:
        self.p = p
        self.state = state
        self.address = plain(p).data_ptr()
        self.grad_dtype = p.grad.dtype
        self.names = names
        self.tensors = [state[name] for name in names]

    def is_current(self) -> bool:
        if plain(self.p).data_ptr() != self.address or self.p.grad.dtype != self.grad_dtype:
            return False
        return all(map(is_, map(self.state.get, self.names), self.tensors))


def _side_by_side(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _split(memory: Tensor, like: list[Tensor]) -> list[Tensor]:
    """What lies side by side, each in its own shape."""
    parts = torch.split(memory, [tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def _like(old: Any, memory: Tensor) -> Tensor:
    """A state of the old one's shape, and sharded like it, in other memory."""
    if not is_sharded(old):
        return memory
    return old.from_local(
        memory, old.device_mesh, old.placements, shape=old.shape, stride=old.stride()
    )
