"""Local tensors of sharded parameters, and sums over all ranks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import is_sharded, own_part, own_parts

# The process groups over whose ranks a tensor is split, one per sharded mesh dimension.
Shards = tuple[Any, ...]


def plain(tensor: Any) -> Tensor:
    """The local tensor of a parameter, gradient or state, with complex numbers viewed as real."""
    tensor = own_part(tensor)
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def all_plain(tensors: Sequence[Any]) -> Sequence[Tensor]:
    """`plain` of each tensor; fast where none is sharded or complex."""
    parts = own_parts(tensors)
    dtypes = set(map(attrgetter("dtype"), parts))
    return list(map(plain, parts)) if any(dtype.is_complex for dtype in dtypes) else parts


def plain_grad(p: Any) -> Tensor:
    """The local tensor of a parameter's gradient, sharded like the parameter."""
    grad = p.grad
    # With tensor parallelism, gradients of replicated parameters are partial sums on each rank.
    if is_sharded(grad) and grad.placements != p.placements:
        grad = grad.redistribute(placements=p.placements)
    # A gradient may be a lazy conjugate or negative view of its memory.
    return plain(own_part(grad).resolve_conj().resolve_neg())


def all_plain_grads(params: Sequence[Any]) -> Sequence[Tensor]:
    """`plain_grad` of each parameter; fast where no gradient is sharded or a lazy view."""
    grads = [p.grad for p in params]
    are_sharded = any(map(is_sharded, set(map(type, grads))))
    if are_sharded or any(map(Tensor.is_conj, grads)) or any(map(Tensor.is_neg, grads)):
        return list(map(plain_grad, params))
    return all_plain(grads)


def shards(tensor: Any) -> Shards:
    """The process groups that a tensor is split over; none if it is plain or replicated."""
    if not is_sharded(tensor):
        return ()
    mesh = tensor.device_mesh
    return tuple(
        mesh.get_group(dim)
        for dim, placement in enumerate(tensor.placements)
        if not placement.is_replicate()
    )


def total(parts: Sequence[tuple[Shards, Sequence[Tensor]]], partition: Shards = ()) -> list[Tensor]:
    """The sums over all parts and ranks, term by term, with one all-reduce per process group.

    parts: for each part, how it is sharded, and its terms on this rank, 0-d tensors. Parts that
        are sharded alike are added up before the all-reduce.
    partition: process groups whose ranks hold different parameters, see `partitioned`.
    """
    alike: dict[Shards, list[Sequence[Tensor]]] = {}
    for over, sums in parts:
        alike.setdefault(over, []).append(sums)
    device = parts[0][1][0].device
    table = torch.stack(  # (ways of sharding, terms)
        [
            torch.stack([_on(device, term) for sums in same for term in sums])
            .view(len(same), -1)
            .sum(0)
            for same in alike.values()
        ]
    )
    for group in dict.fromkeys(group for over in alike for group in over):
        rows = [i for i, over in enumerate(alike) if group in over]
        concerned = table[rows]
        table[rows] = all_reduced(concerned, (group,))
    sums = table.sum(0)
    for group in partition:
        # Ranks may hold parameters of different dtypes, but an all-reduce needs the same one.
        sums = all_reduced(
            sums.to(torch.float32 if device.type == "mps" else torch.float64), (group,)
        )
    return list(sums.unbind())


def is_flattened(p: Tensor) -> bool:
    """Whether FullyShardedDataParallel has flattened and sharded the parameter."""
    return getattr(p, "_fsdp_flattened", False)


def require_whole(method: str, params: Iterable[Tensor]) -> None:
    """Raise ValueError for flattened shards, of which a rule cannot take each tensor's norm."""
    if any(map(is_flattened, params)):
        raise ValueError(
            f"{method} needs the norm of every tensor, but FullyShardedDataParallel flattens and "
            "splits tensors; use fully_shard instead"
        )


def hidden_partition(params: Iterable[Tensor]) -> str | None:
    """The name of the wrapper that divides these plain tensors among ranks; None if none does."""
    if any(map(is_flattened, params)):
        return "FullyShardedDataParallel"
    # These construct the optimizer themselves, with this rank's parameters, and are its callers.
    zero = "torch.distributed.optim.zero_redundancy_optimizer"
    if zero in sys.modules:
        of_zero = sys.modules[zero].ZeroRedundancyOptimizer
        if any(isinstance(caller, of_zero) for caller in _callers("self", zero)):
            return "ZeroRedundancyOptimizer"
    for dims in _callers("parallel_dims") if "torchtitan" in sys.modules else ():
        if getattr(dims, "pp_enabled", False):
            return "torchtitan's pipeline"
    return None


def model_parts() -> int:
    """The number of model parts for which torchtitan is making an optimizer each; 0 elsewhere."""
    # By the code that runs: the container's class is its user's, who may also make one of all.
    for container in _callers("self", "torchtitan.components.optimizer"):
        return len(getattr(container, "model_parts", ()))
    return 0


def _callers(variable: str, module: str = "") -> Iterator[Any]:
    """The values of a local variable in all functions on the call stack, innermost first.

    module: look only at functions of this module, as reading a frame's variables keeps all of them
        alive while it runs (before Python 3.13).
    """
    frame = inspect.currentframe()
    while frame:
        is_there = frame.f_globals.get("__name__", "").startswith(module)
        if is_there and variable in frame.f_code.co_varnames:
            yield frame.f_locals.get(variable)
        frame = frame.f_back


def several_ranks() -> bool:
    """Whether torch.distributed runs with more than one rank."""
    here = torch.distributed.is_available() and torch.distributed.is_initialized()
    return here and torch.distributed.get_world_size() > 1


def all_reduced(sums: Tensor, over: Shards) -> Tensor:
    """All-reduce a tensor of sums over these process groups, in place."""
    for group in over:
        torch.distributed.all_reduce(sums, group=group)  # pyright: ignore[reportUnknownMemberType]
    return sums


def all_reduced_together(parts: Sequence[tuple[Shards, Tensor]]) -> list[Tensor]:
    """`all_reduced` for each tensor, with one all-reduce per process group, dtype and device."""
    found = [sums for _, sums in parts]
    concerned: dict[Any, list[int]] = {}
    for i, (over, sums) in enumerate(parts):
        for group in over:
            concerned.setdefault((group, sums.dtype, sums.device), []).append(i)
    for (group, *_), chosen in concerned.items():
        flat = all_reduced(torch.cat([found[i].reshape(-1) for i in chosen]), (group,))
        sizes = [found[i].numel() for i in chosen]
        for i, sums in zip(chosen, flat.split_with_sizes(sizes), strict=True):
            found[i] = sums.view_as(found[i])
    return found


def _on(device: torch.device, term: Tensor) -> Tensor:
    return term if term.device == device else term.to(device)
