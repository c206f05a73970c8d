"""Offload of averages to the CPU: weights are copied and folded in while training goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from weakref import WeakSet

import torch

from selftune.tensor_list import TensorList


class Offload:
    """Copies weights to the CPU and folds them in on another thread.

    From an accelerator the copies run on their own stream into pinned memory. Only the next write
    to the weights has to wait for them (`hold`); the host never waits. On the CPU itself the copy
    is made at once. The staging memory takes one word per parameter.

    The code for accelerators is written for any device of `torch.accelerator`, but the tests run
    on the CPU only.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._work: Future[None] | None = None
        self._staged: list[TensorList] = []
        self._streams: dict[torch.device, torch.Stream] = {}
        self._copied: dict[torch.device, torch.Event] = {}
        _all.add(self)

    def send(self, parts: Sequence[TensorList], fold: Callable[[list[TensorList]], None]) -> None:
        """Copy the weights, and call `fold` with the copies on the other thread.

        Each part's tensors are of one device and dtype.
        """
        self.wait()  # until the staging memory is free
        if not self._staged:
            self._staged = [_staging(part) for part in parts]
        for part, staged in zip(parts, self._staged, strict=True):
            device = part.tensors[0].device
            if device.type == "cpu":
                staged.copy_(part)
            else:
                self._copied[device] = self._copy(part, staged, device)
        copied = dict(self._copied)

        def work() -> None:
            for event in copied.values():
                event.synchronize()
            fold(self._staged)

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="selftune-offload")
        self._work = self._thread.submit(work)

    def hold(self) -> None:
        """Make the devices' next operations, which may write the weights, wait for the copies."""
        for device, event in self._copied.items():
            torch.accelerator.current_stream(device).wait_event(event)
        self._copied.clear()

    def wait(self) -> None:
        """Wait until everything sent is folded in. Raises what `fold` raised."""
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def _copy(self, part: TensorList, staged: TensorList, device: torch.device) -> torch.Event:
        current = torch.accelerator.current_stream(device)
        side = self._streams.setdefault(device, torch.Stream(device))
        side.wait_stream(current)
        torch.accelerator.set_stream(side)
        try:
            staged.copy_(part, non_blocking=True)
            return side.record_event()
        finally:
            torch.accelerator.set_stream(current)


_all: WeakSet[Offload] = WeakSet()


def _finish() -> None:
    wait_for([offload._work for offload in list(_all) if offload._work is not None])


def _begin_anew() -> None:
    for offload in list(_all):
        offload._thread = None


# A forked process has none of the threads of its parent, and would wait for them for ever.
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_finish, after_in_child=_begin_anew)


def _staging(part: TensorList) -> TensorList:
    """CPU memory for copies of these tensors; pinned if they are on an accelerator."""
    first = part.tensors[0]
    sizes = [tensor.numel() for tensor in part]
    flat = torch.empty(sum(sizes), dtype=first.dtype, pin_memory=first.device.type != "cpu")
    pieces = flat.split(sizes)
    return TensorList([a.view(b.shape) for a, b in zip(pieces, part, strict=True)])
