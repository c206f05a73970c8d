"""Rules as compiled kernels: one pass over memory, whatever a rule's number of operations.

A kernel takes 1-D tensors of any length, so one compilation serves all parameters. Large ones
are taken as they are; small ones lie side by side in packs. All numbers enter in one tensor: a
new learning rate compiles nothing, and a launch has few arguments to check.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from selftune.optim.bucket import Bucket, Cohort, Group, State, chunks
from selftune.optim.execution import Rule, run
from selftune.optim.kernel import Kernel
from selftune.optim.sharding import plain, plain_grad
from selftune.sharded import is_sharded
from selftune.tensor_list import TensorList

# From this size on a kernel's launch is small beside its work.
LARGE = 2**16
# Small parameters and gradients are copied for a step, at most this many elements to a pack.
PACK = 2**22

Number = float | Tensor
# Numbers by name, as they lie in one tensor: how many belong to a name, 0 for one that is alone.
Layout = tuple[tuple[str, int], ...]


class Large:
    """One contiguous parameter, taken as it is."""

    def __init__(self, p: Tensor, state: State, names: list[str]) -> None:
        self.p = p
        self.states = {name: plain(state[name]).contiguous().view(-1) for name in names}

    def tensors(self) -> dict[str, Tensor]:
        param, grad = plain(self.p), plain_grad(self.p).contiguous()
        return {"param": param.view(-1), "grad": grad.view(-1), **self.states}

    def write_back(self) -> None:
        # The kernel wrote into the parameter's memory; autograd has to know.
        torch.autograd.graph.increment_version(self.p)


class Pack:
    """Small parameters side by side in one 1-D tensor.

    The members' states become views of the pack's, for good; parameters and gradients are
    copied in for each step, and parameters out again. The memory for that, 2 words an element,
    is kept: new memory costs a CPU more than the copies.
    """

    def __init__(self, members: list[Tensor], states: list[State], names: list[str]) -> None:
        self.members = members
        first = members[0]
        self.are_plain = not is_sharded(first) and not first.is_complex()
        self.memory = {
            "param": _side_by_side(self._params()),
            "grad": _side_by_side(self._grads()),
            **{name: _side_by_side([plain(state[name]) for state in states]) for name in names},
        }
        self.params = TensorList(_split(self.memory["param"], self._params()))
        self.grads = TensorList(_split(self.memory["grad"], self._grads()))
        for name in names:
            views = _split(self.memory[name], [plain(state[name]) for state in states])
            for state, view in zip(states, views, strict=True):
                state[name] = _like(state[name], view)

    def tensors(self) -> dict[str, Tensor]:
        self.params.copy_(TensorList(self._params()))
        self.grads.copy_(TensorList(self._grads()))
        return self.memory

    def write_back(self) -> None:
        TensorList(self._params()).copy_(self.params)

    def _params(self) -> list[Tensor]:
        return self.members if self.are_plain else [plain(p) for p in self.members]

    def _grads(self) -> list[Tensor]:
        return [p.grad if self.are_plain else plain_grad(p) for p in self.members]  # pyright: ignore


def pieces(cohort: Cohort) -> list[Large | Pack]:
    """The cohort's parameters as kernels take them."""
    local = [plain(p) for p in cohort.members]
    large = [p.numel() >= LARGE and p.is_contiguous() for p in local]
    found: list[Large | Pack] = [
        Large(p, state, cohort.names)
        for p, state, alone in zip(cohort.members, cohort.states, large, strict=True)
        if alone
    ]
    small = [i for i, alone in enumerate(large) if not alone]
    packs = chunks([local[i].numel() for i in small], PACK)
    if _has_other_shapes(cohort):  # a kernel knows no bounds within a pack
        packs = (slice(i, i + 1) for i in range(len(small)))
    for part in packs:
        members = [cohort.members[i] for i in small[part]]
        states = [cohort.states[i] for i in small[part]]
        if members:
            found.append(Pack(members, states, cohort.names))
    return found


def joined(cohort: Cohort) -> list[Bucket]:
    """The cohort in buckets of one tensor of each kind: those of its pieces."""
    if cohort.pieces is None:
        cohort.pieces = pieces(cohort)
    return [
        Bucket(
            group=cohort.group,
            source=piece,
            **{name: TensorList([tensor]) for name, tensor in piece.tensors().items()},
        )
        for piece in cohort.pieces
    ]


def run_compiled(
    rule: Rule, parts: list[Bucket], options: Group, numbers: State, ok: Tensor | None
) -> Iterator[list[Tensor]]:
    """Run a rule on the buckets that `joined` made of a cohort; yields the sums of each."""
    device = parts[0].param.tensors[0].device
    layouts, flat, constants = _laid_out([options, numbers], device)
    names = tuple(name for name, value in vars(parts[0]).items() if isinstance(value, TensorList))
    dtypes = tuple(getattr(parts[0], name).tensors[0].dtype for name in names)
    kernel = _kernel(rule, device, names, dtypes, layouts, constants, ok is not None)
    after = (flat,) if ok is None else (flat, ok)
    for b in parts:
        yield kernel(*(getattr(b, name).tensors[0] for name in names), *after)


@functools.cache
def _kernel(
    rule: Rule,
    device: torch.device,
    names: tuple[str, ...],
    dtypes: tuple[torch.dtype, ...],
    layouts: tuple[Layout, ...],
    constants: tuple[Any, ...],
    undoable: bool,
) -> Kernel:
    def function(*inputs: Tensor) -> list[Tensor]:
        *tensors, flat, ok = inputs if undoable else (*inputs, None)
        lists = {name: TensorList([tensor]) for name, tensor in zip(names, tensors, strict=True)}
        values = iter(flat.unbind())
        group, numbers = (
            {name: tuple(next(values) for _ in range(n)) if n else next(values) for name, n in row}
            for row in layouts
        )
        group.update(constants[0])
        return run(rule, Bucket(group=group, **lists, **numbers, **dict(constants[1])), ok)

    return Kernel(function, _compiler_options(device.type))


def _compiler_options(device: str) -> dict[str, Any]:
    # Without it the compiler leaves out the rounding to bfloat16 that run() compensates.
    options: dict[str, Any] = {"emulate_precision_casts": True}
    # The compiler's scheduler is no public interface; in other versions sums are more loops.
    if device == "cpu" and torch.__version__.startswith("2.13."):
        from selftune.optim import one_loop

        options.update(one_loop.OPTIONS)
    return options


def _laid_out(
    rows: list[dict[str, Any]], device: torch.device
) -> tuple[tuple[Layout, ...], Tensor, tuple[Any, ...]]:
    """Floats (also in tuples) and 0-d tensors in one tensor, and where they lie; all else as
    constants."""
    # float64 so that 1 - beta keeps its digits.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    layouts: list[Layout] = []
    constants: list[Any] = []
    values: list[Any] = []
    for row in rows:
        variable: dict[str, Number | tuple[Number, ...]] = {
            name: value for name, value in row.items() if _varies(value)
        }
        layouts.append(
            tuple((n, len(v) if isinstance(v, tuple) else 0) for n, v in variable.items())
        )
        constants.append(tuple((n, v) for n, v in row.items() if n not in variable))
        for value in variable.values():
            values.extend(value if isinstance(value, tuple) else [value])
    # What the host knows goes over in one transfer; what it does not is never read.
    known = [0.0 if isinstance(v, Tensor) and v.device == device else float(v) for v in values]
    flat = torch.tensor(known, dtype=dtype, device=device)
    for i, value in enumerate(values):
        if isinstance(value, Tensor) and value.device == device:
            flat[i] = value
    return tuple(layouts), flat, tuple(constants)


def _varies(value: Any) -> bool:
    return isinstance(value, float | Tensor) or (isinstance(value, tuple) and value != ())


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


def _has_other_shapes(cohort: Cohort) -> bool:
    """Whether a state is not shaped like its parameter: a number per tensor, a sample."""
    pairs = zip(cohort.members, cohort.states, strict=True)
    return any(plain(state[n]).shape != plain(p).shape for p, state in pairs for n in cohort.names)
