"""Sharded parameters: their local tensors, and sums over all ranks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import is_sharded, own_part, own_parts

# The process groups over whose ranks a tensor is split, one per sharded mesh dimension.
Shards = tuple[Any, ...]


def plain(tensor: Any) -> Tensor:
    """The memory behind a parameter, a gradient or a state: this rank's part, as real numbers."""
    tensor = own_part(tensor)
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def all_plain(tensors: Sequence[Any]) -> Sequence[Tensor]:
    """`plain` of each: quickly where all are whole and real."""
    parts = own_parts(tensors)
    return list(map(plain, parts)) if any(map(torch.is_complex, parts)) else parts


def plain_grad(p: Any) -> Tensor:
    """The memory behind a parameter's gradient, laid out as the parameter is."""
    grad = p.grad
    # Tensor parallelism leaves partial sums as the gradients of what every rank holds whole.
    if is_sharded(grad) and grad.placements != p.placements:
        grad = grad.redistribute(placements=p.placements)
    # A gradient may be the conjugate or the negative of the memory behind it, without a copy.
    return plain(own_part(grad).resolve_conj().resolve_neg())


def shards(tensor: Any) -> Shards:
    """Empty for a plain tensor, and for one that every rank holds whole."""
    if not is_sharded(tensor):
        return ()
    mesh = tensor.device_mesh
    return tuple(
        mesh.get_group(dim)
        for dim, placement in enumerate(tensor.placements)
        if not placement.is_replicate()
    )


def total(parts: Sequence[tuple[Shards, Sequence[Tensor]]], partition: Shards = ()) -> list[Tensor]:
    """The sums over all parts and ranks, term by term.

    parts: how a part is sharded, and its sums on this rank, 0-d tensors. What is sharded alike is
    added up first; then one all-reduce per process group completes all sums that it concerns.
    partition: the groups among whose ranks the parameters themselves are divided.
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
        table[rows] = completed(concerned, (group,))
    sums = table.sum(0)
    for group in partition:
        # Ranks may hold parameters of different types, but have to send the same one.
        sums = completed(
            sums.to(torch.float32 if device.type == "mps" else torch.float64), (group,)
        )
    return list(sums.unbind())


def is_flattened(p: Tensor) -> bool:
    """Whether FullyShardedDataParallel cuts the parameter anywhere, or has merged several."""
    return getattr(p, "_fsdp_flattened", False)


def require_whole(method: str, params: Iterable[Tensor]) -> None:
    """Raise ValueError for tensors that were cut or merged, where a rule needs the norm of each."""
    if any(map(is_flattened, params)):
        raise ValueError(
            f"{method} needs the norm of every tensor, and FullyShardedDataParallel cuts and "
            "merges tensors; use fully_shard instead"
        )


def hidden_partition(params: Iterable[Tensor]) -> str | None:
    """The name of what has divided these plain tensors among the ranks, if anything has."""
    if any(map(is_flattened, params)):
        return "FullyShardedDataParallel"
    # Some construct the optimizer of this rank's parameters themselves.
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
    """For how many parts of a model on this rank torchtitan is making an optimizer each."""
    for container in _callers("self") if "torchtitan" in sys.modules else ():
        if type(container).__module__.partition(".")[0] == "torchtitan":
            return len(getattr(container, "model_parts", ()))
    return 0


def _callers(variable: str, module: str = "") -> Iterator[Any]:
    """This variable of the functions that led here, the latest first.

    module: only of functions there. To read one variable of a function keeps all of them alive for
    as long as it runs (before Python 3.13), so that others are not read.
    """
    frame = inspect.currentframe()
    while frame:
        is_there = frame.f_globals.get("__name__", "").startswith(module)
        if is_there and variable in frame.f_code.co_varnames:
            yield frame.f_locals.get(variable)
        frame = frame.f_back


def several_ranks() -> bool:
    """Whether this is one process of several."""
    here = torch.distributed.is_available() and torch.distributed.is_initialized()
    return here and torch.distributed.get_world_size() > 1


def completed(sums: Tensor, over: Shards) -> Tensor:
    """Sums over this rank's parts as sums over all parts, in place."""
    for group in over:
        torch.distributed.all_reduce(sums, group=group)  # pyright: ignore[reportUnknownMemberType]
    return sums


def completed_together(parts: Sequence[tuple[Shards, Tensor]]) -> list[Tensor]:
    """`completed` for each, with one all-reduce per process group for all that it concerns."""
    found = [sums for _, sums in parts]
    concerned: dict[Any, list[int]] = {}
    for i, (over, sums) in enumerate(parts):
        for group in over:
            concerned.setdefault((group, sums.dtype, sums.device), []).append(i)
    for (group, *_), chosen in concerned.items():
        flat = completed(torch.cat([found[i].reshape(-1) for i in chosen]), (group,))
        sizes = [found[i].numel() for i in chosen]
        for i, sums in zip(chosen, flat.split_with_sizes(sizes), strict=True):
            found[i] = sums.view_as(found[i])
    return found


def _on(device: torch.device, term: Tensor) -> Tensor:
    return term if term.device == device else term.to(device)
