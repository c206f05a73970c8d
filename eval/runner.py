"""Running of trials, each in its own process, so that none can affect another."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import torch

from .trial import Interrupted, Record, Trial, record, run_trial

OUT_OF_MEMORY = signal.SIGKILL  # what Linux sends when memory runs out
# Signals that a process causes itself. Any other one comes from outside, and says nothing about the
# method.
CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
SECONDS_TO_EXIT = 5


@dataclass
class _Job:
    trial: Trial
    process: SpawnProcess
    connection: Connection
    step: int = 0


def run(
    trials: Iterable[Trial],
    jobs: int,
    keep: Callable[[Record], None],
    watch: Callable[[Trial, int, float], None] = lambda trial, step, metric: None,
    lost: Callable[[Trial, str, bool], None] = lambda trial, reason, again: None,
) -> None:
    """Run every trial in its own process, `jobs` at a time.

    A trial that was ended from outside, by a signal or lack of memory, has no outcome. It is run
    once more after all others, alone, so that it has more memory.

    keep: called with the record of each trial that ended by itself.
    watch: called with the trial, the step and the metric of every evaluation.
    lost: called with a trial that was ended from outside, by what, and whether it runs again.
    """
    first = list(trials)
    interrupted: list[Trial] = []

    def once_more(trial: Trial, reason: str) -> None:
        interrupted.append(trial)
        lost(trial, reason, True)

    _run(first, jobs, keep, watch, once_more)
    _run(interrupted, 1, keep, watch, lambda trial, reason: lost(trial, reason, False))


def _run(
    trials: Iterable[Trial],
    jobs: int,
    keep: Callable[[Record], None],
    watch: Callable[[Trial, int, float], None],
    lost: Callable[[Trial, str], None],
) -> None:
    waiting = deque(trials)
    running: dict[Connection, _Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                job = _start(waiting.popleft())
                running[job.connection] = job
            for ready in connection.wait(list(running)):
                assert isinstance(ready, Connection)
                job = running[ready]
                try:
                    message = ready.recv()
                except (EOFError, OSError):  # the process died, possibly in the middle of a message
                    message = _post_mortem(job)
                if isinstance(message, dict | str):  # a record, or what interrupted the trial
                    del running[ready]
                    _end(job)
                    if isinstance(message, str):
                        lost(job.trial, message)
                    else:
                        keep(message)
                else:
                    job.step, metric = message
                    watch(job.trial, job.step, metric)
    finally:
        for job in running.values():
            job.process.kill()
            _end(job)


def _start(trial: Trial) -> _Job:
    # Metrics may use other libraries, with threads of their own.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic CUDA
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(trial, sender))
    resource_tracker.ensure_running()  # starting it would let interrupts through
    with _interrupts_held():
        process.start()
    sender.close()  # now the child has the only one, and its death is an end of file
    return _Job(trial, process, receiver)


def _work(trial: Trial, sender: Connection) -> None:
    """The main function of a trial's process."""
    _die_with_parent()
    torch.set_num_threads(1)
    # Some operations, CTC's gradient among them, have no deterministic form on accelerators.
    torch.use_deterministic_algorithms(True, warn_only=trial.device != "cpu")
    try:
        sender.send(run_trial(trial, lambda step, metric: sender.send((step, metric))))
    except Interrupted as reason:
        sender.send(str(reason))


def _post_mortem(job: _Job) -> Record | str:
    """The record for a process that ended without sending one, or the reason of its end."""
    job.process.join()
    status = job.process.exitcode
    assert status is not None
    if status >= 0:
        reason = f"exited with status {status} before it was done"
        return record(job.trial, [], "failed", reason, steps=job.step)
    reason = f"killed by signal {-status}"
    if -status in CRASHES:
        return record(job.trial, [], "failed", reason, steps=job.step)
    return f"{reason} (out of memory?)" if -status == OUT_OF_MEMORY else reason


def _end(job: _Job) -> None:
    job.connection.close()
    job.process.join(SECONDS_TO_EXIT)
    if job.process.is_alive():  # threads of the method may keep it from exiting
        job.process.kill()
        job.process.join()
    job.process.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C until after the block; processes started in the block ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with_parent() -> None:
    """End this process when its parent ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_the_end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
