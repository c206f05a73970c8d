"""A trial of three steps for each of a user's methods, before a run of hours begins."""

import multiprocessing
from collections.abc import Iterable
from contextlib import closing
from multiprocessing.connection import Connection

import torch

from .cli import in_a_line
from .training import Seeds, train
from .trial import Trial
from .user_code import Reference

STEPS = 3


def refuse_unusable(trials: Iterable[Trial]) -> None:
    """Try each of the user's own methods once, on the first workload that it will train.

    Raises ValueError, with a message of one line, for a method that fails in its first steps. The
    methods of `eval.methods` have tests instead.
    """
    first = {trial.method: trial for trial in reversed(list(trials))}
    for trial in first.values():
        if isinstance(trial.build, Reference):
            reason = _reason(trial)
            if reason is not None:
                raise ValueError(f"{trial.method} cannot train {trial.workload.name}: {reason}")


def tried(trial: Trial) -> str | None:
    """The reason why the trial fails in its first steps; None if it does not fail."""
    seeds = Seeds.of(trial.workload.name, trial.study, trial.seed)
    try:
        with closing(train(trial.workload, trial.build, seeds, STEPS, trial.device)) as run:
            for _ in run:
                pass
    except (Exception, SystemExit) as error:
        return str(error) if isinstance(error, TypeError) else in_a_line(error)
    return None


def _reason(trial: Trial) -> str | None:
    """Runs in a separate process, so that a method cannot harm this one."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(trial, sender), daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        if (process.exitcode or 0) < 0:
            return None  # killed from outside, which says nothing about the method
        return f"its process exited with status {process.exitcode}"
    finally:
        receiver.close()
        process.kill()
        process.join()


def _work(trial: Trial, sender: Connection) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=trial.device != "cpu")
    sender.send(tried(trial))
