"""Functions run by several ranks at once: processes on this machine that communicate by gloo."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import queue
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import torch

Call = tuple[Any, ...]  # a function and its arguments

# Imported once, by the process from which the ranks are forked.
PRELOADED = [
    "torch",
    "torch._dynamo",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.optim",
    "torch.distributed.tensor.parallel",
]


def in_worlds(calls: dict[int, Call], timeout: int = 1800) -> dict[int, list[Any]]:
    """For each number of ranks, the results of its function on each rank.

    The worlds run one after the other in the same processes; arguments and results are pickled.
    Raises RuntimeError with the traceback of the first rank that fails. After `timeout` seconds
    every process prints its stack and ends.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_rank, args=(rank, calls, folder, timeout, results))
            for rank in range(max(calls))
        ]
        for process in processes:
            process.start()
        answers: dict[tuple[int, int], Any] = {}
        try:
            while len(answers) < sum(calls):
                try:
                    rank, size, result, error = results.get(timeout=1)
                except queue.Empty:
                    if any(process.is_alive() for process in processes):
                        continue
                    codes = [process.exitcode for process in processes]
                    raise RuntimeError(f"ranks ended with codes {codes}") from None
                if error:
                    raise RuntimeError(f"rank {rank} of {size} failed:\n{error}")
                answers[size, rank] = pickle.loads(result)
        finally:
            for process in processes:
                if len(answers) < sum(calls):
                    process.kill()
                process.join()
    return {size: [answers[size, rank] for rank in range(size)] for size in calls}


def on_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """The results of a function on each rank of one world."""
    return in_worlds({world_size: (function, *args)})[world_size]


def _rank(rank: int, calls: dict[int, Call], folder: str, timeout: int, results: Any) -> None:
    faulthandler.dump_traceback_later(timeout, exit=True)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    for world_size, (function, *args) in calls.items():
        if rank >= world_size:
            continue
        torch.distributed.init_process_group(
            "gloo", f"file://{folder}/{world_size}", world_size=world_size, rank=rank
        )
        try:
            # As bytes: the queue would share a tensor's memory, which ends with this process.
            results.put((rank, world_size, pickle.dumps(function(*args)), None))
        except Exception:
            results.put((rank, world_size, None, traceback.format_exc()))
            raise
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
