"""Detection of writes to parameters from outside the optimizer, between its steps.

Users load, prune, clamp and normalize weights between steps. An optimizer whose state holds weights
too (z, x, p0) then has to adapt that state. A write shows in the parameter's version counter or
address, which the host reads without waiting for the device. A write to `p.data` changes neither:
it shows in a sample of the elements, which is compared at every look on a CPU, and on an
accelerator whenever the host waits for the device anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter, is_not
from typing import NamedTuple

import torch
from torch import Tensor

from selftune.optim.engine.collectives import all_plain, plain

SAMPLE = 64  # elements of each tensor that are compared
# A third write with at most so many steps between writes counts as `again`: a constraint.
OFTEN = 100
ROUNDING = 16  # the largest difference that counts as rounding, in units of the dtype's eps


class Write(NamedTuple):
    """A write to a parameter from outside the optimizer.

    where: a mask of the elements that changed; None for all of them.
    again: whether the parameter is written repeatedly, as by a constraint, and not just once, as
        by loading weights.
    """

    where: Tensor | None
    again: bool


class Marks:
    """A record of what the optimizer last wrote into its parameters, to notice other writes."""

    def __init__(self) -> None:
        self._params: list[Tensor] = []
        self._places: dict[Tensor, int] = {}
        self._views: list[Tensor] = []  # views of the sampled elements
        self._values: list[Tensor] = []  # the values that the optimizer left there
        self._versions: list[int] = []
        self._addresses: list[int] = []
        # Views and values of one dtype and device, to be compared at once.
        self._batches: list[tuple[list[Tensor], Tensor]] = []
        self._touched: set[Tensor] = set()  # written from outside since the last step
        self._whole: dict[Tensor, Tensor] = {}  # full copies of those touched before the last step
        self._steps = 0
        self._times: dict[Tensor, tuple[int, int]] = {}  # number of writes, step of the last one

    def __contains__(self, p: Tensor) -> bool:
        return p in self._places

    def record(self, params: list[Tensor], after_step: bool = False) -> None:
        """Record the present values of these parameters as written by the optimizer.

        After a step these are all parameters. Those that were written from outside before it are
        copied whole, so that the next such write shows which elements it changed.
        """
        versions, addresses = _versions_and_addresses(params)
        if len(params) != len(self._params) or any(map(is_not, params, self._params)):
            self._record_some(params)
        elif addresses != self._addresses:
            self._begin(params)
        else:
            for views, values in self._batches:
                torch.cat(views, out=values)
            self._versions = versions
        if after_step:
            self._steps += 1
            touched = [p for p in params if p in self._touched] if self._touched else []
            self._whole = {p: plain(p).detach().clone() for p in touched}
            self._touched.clear()
        elif self._whole:
            self._whole |= {p: plain(p).detach().clone() for p in params if p in self._whole}

    def written(self, wait: bool) -> dict[Tensor, Write]:
        """The parameters that were written from outside since the last `record`.

        wait: whether the host may wait for an accelerator, to compare the samples there.
        """
        suspects = self._suspects(wait)
        found: dict[Tensor, Write] = {}
        for i in suspects:
            p = self._params[i]
            write = self._look(p, i)
            if write is not None:
                found[p] = write
        return found

    def _suspects(self, wait: bool) -> list[int]:
        versions, addresses = _versions_and_addresses(self._params)
        suspects = {i for i, own in enumerate(self._versions) if versions[i] != own}
        suspects |= {i for i, own in enumerate(self._addresses) if addresses[i] != own}
        for views, values in self._batches:
            if values.is_meta or not (values.is_cpu or wait):
                continue
            if not torch.equal(_bits(torch.cat(views)), _bits(values)):
                suspects.update(
                    i
                    for i, (view, value) in enumerate(zip(self._views, self._values, strict=True))
                    if value.dtype == values.dtype
                    and value.device == values.device
                    and not torch.equal(_bits(view.contiguous()), _bits(value))
                )
        return sorted(suspects)

    def _look(self, p: Tensor, i: int) -> Write | None:
        tensor, before = plain(p).detach(), self._values[i]
        view = _sample(tensor)
        if tensor.is_meta or (view.dtype, view.device) != (before.dtype, before.device):
            return None  # moved to another device or dtype, with the same values
        if view.stride() != self._views[i].stride() or view.shape != before.shape:
            return None  # another memory format
        whole = self._whole.get(p)
        if whole is not None:
            where = _unlike(tensor, whole)
            if not where.any():
                self._touched.add(p)  # perhaps a clamp that changed nothing this time
                return None
            self._touched.add(p)
            is_mask = not tensor[where].any()
            return Write(None if where.all() else where, again=not is_mask)
        changed = _unlike(view, before)
        if not changed.any() and not torch.equal(_bits(view.contiguous()), _bits(before)):
            return None  # the old values are back, up to rounding
        if not changed.any() or not view[changed].any():
            # A pruning mask, or a write to elements outside the sample. Weights are not 0 by
            # chance, so the zeros are taken for what was written.
            if not changed.any():
                self._touched.add(p)
            zeros = tensor == 0
            return Write(zeros, again=False) if zeros.any() else None
        self._touched.add(p)
        return Write(None, self._is_again(p))

    def _is_again(self, p: Tensor) -> bool:
        times, last = self._times.get(p, (0, 0))
        if last != self._steps:  # otherwise it is the same write, found a second time
            times = times + 1 if self._steps - last <= OFTEN else 1
            self._times[p] = times, self._steps
        return times >= 3

    def _begin(self, params: list[Tensor]) -> None:
        self._params = list(params)
        self._places = {p: i for i, p in enumerate(params)}
        self._versions, self._addresses = _versions_and_addresses(params)
        self._views = [_sample(plain(p).detach()) for p in params]
        alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for i, view in enumerate(self._views):
            alike.setdefault((view.device, view.dtype), []).append(i)
        self._batches, self._values = [], list(self._views)
        for members in alike.values():
            views = [self._views[i] for i in members]
            values = torch.cat(views)
            self._batches.append((views, values))
            parts = torch.split(values, [view.numel() for view in views])
            for i, part in zip(members, parts, strict=True):
                self._values[i] = part

    def _record_some(self, params: Iterable[Tensor]) -> None:
        """Record these parameters anew, and keep the record of the others."""
        kept = {
            p: (self._versions[i], self._addresses[i], self._views[i], self._values[i].clone())
            for p, i in self._places.items()
        }
        for p in params:
            kept.pop(p, None)
        both = [*kept, *params]
        order = [p for p in self._params if p in set(both)]
        self._begin([*order, *(p for p in params if p not in self._places)])
        for p, (version, address, view, value) in kept.items():
            i = self._places[p]
            self._versions[i], self._addresses[i] = version, address
            if self._values[i].shape == value.shape and self._values[i].dtype == value.dtype:
                self._values[i].copy_(value)
            self._views[i] = view


def put(tensor: Tensor, value: Tensor, where: Tensor | None) -> None:
    """Write the value everywhere, or where the mask is true."""
    value = value.to(tensor.dtype)
    tensor.copy_(value if where is None else torch.where(where, value, tensor))


def _versions_and_addresses(params: list[Tensor]) -> tuple[list[int], list[int]]:
    tensors = all_plain(params)
    return list(map(attrgetter("_version"), tensors)), list(map(Tensor.data_ptr, tensors))


def _sample(tensor: Tensor) -> Tensor:
    """Evenly spaced elements of a tensor, as a 1-D view."""
    elements = tensor.numel()
    dense = tensor.is_contiguous() or torch.empty_like(tensor, device="meta").stride() == (
        tensor.stride()
    )
    if not dense:
        return tensor.as_strided((min(elements, 1),), (1,), tensor.storage_offset())
    size = min(elements, SAMPLE)
    return tensor.as_strided((size,), (max(1, elements // SAMPLE),), tensor.storage_offset())


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.uint8)


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    """Where a and b differ by more than the rounding of a move to the evaluation weights and back.

    A new zero in `a` counts as written, however small the difference, as masks write zeros. In
    16-bit types the move is exact, thanks to the state `compensation`.
    """
    differs = (a != b) & ~(a.isnan() & b.isnan())
    if a.dtype.itemsize < 4 or not b.numel():
        return differs
    rounding = ROUNDING * torch.finfo(b.dtype).eps * b.abs().max()
    return differs & ((a == 0) | ~((a - b).abs() <= rounding))
