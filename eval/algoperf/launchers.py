"""Launchers of official runs: one after the other on this host, or as jobs of a Slurm cluster."""

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import submitit

from .official_run import OfficialRun, carry_out
from .slurm_queue import Queue, error, in_queue

End = Callable[[OfficialRun, str | None], None]  # called when a run ends, with why it failed
POLL = 30.0  # seconds between two looks at the queue
MARGIN = 1.5  # a job's time limit divided by its budget with evaluations
SPARE = 3600  # seconds for data, compilation and the rehearsal
GRACE = 900.0  # seconds that a job has to end after it was told to


def run_here(runs: Sequence[OfficialRun], ended: End) -> None:
    """Carry out the runs one after the other; each uses all GPUs."""
    for run in runs:
        try:
            carry_out(run)
        except RuntimeError as error:
            ended(run, str(error))
        else:
            ended(run, None)


class Job:
    """The function that a node runs. submitit calls `checkpoint` when the job is preempted."""

    def __call__(self, run: OfficialRun) -> None:
        told = []
        before = signal.signal(signal.SIGTERM, lambda *_: told.append(True))
        try:
            carry_out(run)
        except RuntimeError:
            # When a job is preempted, Slurm signals all its processes at once, and the runner
            # ends. The run has not failed: the job is about to be queued again.
            time.sleep(1)  # this process may be signalled after the runner
            if told:
                time.sleep(GRACE)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)

    def checkpoint(self, run: OfficialRun) -> submitit.helpers.DelayedSubmission:
        """Queue the job again: it restarts, or resumes from its checkpoint."""
        return submitit.helpers.DelayedSubmission(self, run)


def run_on_cluster(
    runs: Sequence[OfficialRun],
    ended: End,
    seconds: Callable[[OfficialRun], float],
    at_once: int,
    options: dict[str, str],
    cluster: str = "slurm",
    poll: float = POLL,
) -> None:
    """One job for each run, `at_once` at a time; waits for all.

    seconds: how long training and evaluations of a run may take.
    options: of sbatch, without the dashes.
    Jobs stay in the queue when this process ends; started again, it waits for them.
    """
    finished = [run for run in runs if run.mark.exists()]  # by jobs for which no process waited
    for run in finished:
        ended(run, None)
    runs = [run for run in runs if run not in finished]
    if not runs:
        return
    folder = runs[0].out / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    waiting = _queued(folder, runs) if cluster == "slurm" else {}
    new = [run for run in runs if run not in waiting]
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(
        name="selftune",
        nodes=1,
        tasks_per_node=1,  # torchrun starts the others
        gpus_per_node=runs[0].gpus,
        timeout_min=ceil((MARGIN * max(map(seconds, runs)) + SPARE) / 60),
        slurm_array_parallelism=at_once,
        **({"slurm_additional_parameters": options} if options else {}),
    )
    if new:
        with executor.batch():
            submitted = {run: executor.submit(Job(), run) for run in new}
        for run, job in submitted.items():
            (folder / f"{run.name}.json").write_text(json.dumps(job.job_id), encoding="utf-8")
        waiting |= submitted
    queue = Queue()
    while waiting:
        for run, problem in (queue.ended if cluster == "slurm" else _ended)(waiting).items():
            del waiting[run]
            (folder / f"{run.name}.json").unlink()
            ended(run, problem)
        if waiting:
            time.sleep(poll)


def _queued(folder: Path, runs: Sequence[OfficialRun]) -> dict[OfficialRun, submitit.Job[Any]]:
    """The jobs that an earlier process left in the queue."""
    files = {run: folder / f"{run.name}.json" for run in runs}
    left: dict[OfficialRun, submitit.Job[Any]] = {
        run: submitit.SlurmJob(folder, json.loads(path.read_text()))
        for run, path in files.items()
        if path.is_file()
    }
    there = in_queue(left.values()) if left else set()
    return {run: job for run, job in left.items() if job.job_id in there}


def _ended(jobs: Mapping[OfficialRun, submitit.Job[Any]]) -> dict[OfficialRun, str | None]:
    """The runs that have ended, each with the reason if it failed."""
    return {run: error(job) for run, job in jobs.items() if job.done()}
