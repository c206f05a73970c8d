"""Large parameters as flat tensors, small ones packed into one flat tensor per cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import is_sharded
from selftune.optim.engine.cohorts import Bucket, Cohort, State, chunks
from selftune.optim.engine.collectives import all_plain, all_plain_grads, plain, plain_grad
from selftune.optim.engine.precision import LOW_PRECISION
from selftune.tensor_list import TensorList

# Parameters of at least this many elements get a call of the compiled rule each: calling it takes
# little time compared with its work.
LARGE = 2**16
# A pack has at most this many elements. On a CPU they then stay in the cache while they are copied
# in, updated and copied out.
PACK = 2**22
PACK_ON_CPU = 2**18
# A shorter pack is padded with zeros to this length. The compiler would generate different code
# for sums over at most 4,096 elements, and again for one element: so it compiles only once.
SHORTEST = 2**13
# Older compilers omit the rounding for which `run` compensates, whatever their options.
KEEPS_ROUNDING = torch.__version__ >= "2.13"


class Large:
    """A large contiguous parameter with its gradient and state, as 1-D tensors without copies."""

    def __init__(self, p: Tensor, state: State, names: list[str]) -> None:
        self.p = p
        tensors = {"param": p, **{name: state[name] for name in names}}
        self.lists = {name: TensorList([_flat(tensor)]) for name, tensor in tensors.items()}

    def read_gradients(self) -> None:
        self.lists["grad"] = TensorList([_flat(plain_grad(self.p).contiguous())])

    def read_parameters(self) -> None:
        pass

    def write_back(self) -> None:
        # The compiled rule wrote into the parameter's memory, of which autograd does not know.
        torch.autograd.graph.increment_version(self.p)


class Pack:
    """Small parameters packed into one 1-D tensor, and their gradients and states likewise.

    The members' states are views of the pack's memory for as long as the pack lives. Each step
    copies the gradients in, and the parameters in and out. The memory for these copies is kept
    from step to step, because allocating it would take longer than copying: each pack has its own
    for gradients, and all packs of a cohort share that for parameters (`for_params`) in turn.
    """

    def __init__(
        self, members: list[Tensor], states: list[State], names: list[str], for_params: Tensor
    ) -> None:
        self.members = members
        # Views of the parameters' memory, as in `Large`: `Watch` tells when it was exchanged.
        self.own_params = params = all_plain(members)
        grads = all_plain_grads(members)
        elements = sum(p.numel() for p in params)
        memory = {
            "param": _flat(for_params[: max(elements, SHORTEST)]),
            **{name: _side_by_side([plain(state[name]) for state in states]) for name in names},
            "grad": _side_by_side(grads),
        }
        self.lists = {name: TensorList([tensor]) for name, tensor in memory.items()}
        self.params = TensorList(_parts(memory["param"], params))
        self.own = {name: memory[name][:elements] for name in ("param", "grad")}
        ends = [tensor[elements:] for tensor in memory.values()]
        self.ends = TensorList(ends if elements < SHORTEST else [])
        for name in names:
            parts = _parts(memory[name], [plain(state[name]) for state in states])
            for state, part in zip(states, parts, strict=True):
                state[name] = _like(state[name], part)

    def read_gradients(self) -> None:
        grads = all_plain_grads(self.members)
        torch.cat([_in_one_dimension(grad) for grad in grads], out=self.own["grad"])

    def read_parameters(self) -> None:
        torch.cat([_in_one_dimension(p) for p in self.own_params], out=self.own["param"])
        self.ends.zero_()

    def write_back(self) -> None:
        TensorList(self.own_params).copy_(self.params)


def divided(cohort: Cohort, elementwise: bool) -> list[Cohort]:
    """Split a cohort into one for the list path and compiled ones, each with the same dtypes.

    elementwise: whether the rule works element by element, on states of the parameter's shape.
    """
    alike: dict[Any, list[int]] = {}
    for i, state in enumerate(cohort.states):
        types = tuple(state[name].dtype for name in cohort.names)
        alike.setdefault((_fits(cohort, i, elementwise), types), []).append(i)
    parts: list[Cohort] = []
    for (compiled, _), chosen in alike.items():
        members = [cohort.members[i] for i in chosen]
        part = Cohort(cohort.group, members, [cohort.states[i] for i in chosen], compiled)
        part.pieces = pieces(part) if compiled else []
        parts.append(part)
    return parts


def _fits(cohort: Cohort, i: int, elementwise: bool) -> bool:
    p, state = cohort.members[i], cohort.states[i]
    if cohort.sparse or p.is_meta or (p.dtype in LOW_PRECISION and not KEEPS_ROUNDING):
        return False
    if cohort.counts.get("rows"):  # rules for matrices: compiled code sees one dimension
        return False
    # The compiler warns on a CPU when float16 is mixed with the bfloat16 of `compensation`.
    if p.dtype == torch.float16 and p.is_cpu:
        return False
    # The list path raises on states on another device; compiled code would read a wrong address.
    if any(state[name].device != p.device for name in cohort.names):
        return False
    # In a pack a rule cannot tell where a parameter ends, as it must for a number per tensor.
    shapes = {plain(state[name]).shape for name in cohort.names}
    return _is_large(cohort, i) or (elementwise and shapes <= {plain(p).shape})


def _is_large(cohort: Cohort, i: int) -> bool:
    p, state = cohort.members[i], cohort.states[i]
    tensors = [plain(p), *(plain(state[name]) for name in cohort.names)]
    return tensors[0].numel() >= LARGE and all(tensor.is_contiguous() for tensor in tensors)


def pieces(cohort: Cohort) -> list[Large | Pack]:
    """The cohort's parameters, the large ones each by itself and the small ones in packs."""
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
    most = max(SHORTEST, *(sum(sizes[part]) for part in parts))
    for_params = plain(cohort.members[0]).new_empty(most)
    for part in parts:
        members = [cohort.members[i] for i in small[part]]
        states = [cohort.states[i] for i in small[part]]
        found.append(Pack(members, states, cohort.names, for_params))
    return found


def buckets(cohort: Cohort) -> list[Bucket]:
    """A bucket for each piece of the cohort, with 1-D tensors and the present gradients.

    The packs share one memory for parameters, so finish one bucket (`read_parameters`, the rule,
    `write_back`) before you begin the next.
    """
    for piece in cohort.pieces:
        piece.read_gradients()
    return [Bucket(group=cohort.group, source=piece, **piece.lists) for piece in cohort.pieces]


def _flat(tensor: Tensor) -> Tensor:
    """The same memory as a 1-D tensor, detached, as the compiler would trace the base of a view."""
    return plain(tensor).detach().view(-1).detach()


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    missing = max(0, SHORTEST - sum(tensor.numel() for tensor in tensors))
    flat = map(_in_one_dimension, tensors)
    return torch.cat([*flat, tensors[0].new_zeros(missing)])


def _in_one_dimension(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() == 1 else tensor.reshape(-1)


def _parts(memory: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a pack's memory that belong to its members, in their shapes.

    Each has its own storage within that memory, so that saving one does not save its neighbours.
    """
    storage: Any = memory.untyped_storage()
    size, end = memory.element_size(), 0
    parts: list[Tensor] = []
    for tensor in like:
        start, end = end, end + tensor.numel() * size
        part: Any = torch.empty(0, dtype=memory.dtype, device=memory.device)
        parts.append(part.set_(storage[start:end], 0, tensor.shape))
    return parts


def _like(old: Any, memory: Tensor) -> Tensor:
    """The memory as a state in place of the old one, sharded like it."""
    if not is_sharded(old):
        return memory
    return old.from_local(
        memory, old.device_mesh, old.placements, shape=old.shape, stride=old.stride()
    )
