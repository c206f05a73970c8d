"""The state of our jobs in Slurm's queue, and the errors of those that failed.

submitit asks sacct, for which a cluster has to keep accounts; not every one does, and a job that
was cancelled would be waited for for ever. squeue answers on all.
"""

import subprocess
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import submitit

Job = submitit.Job[Any]
Key = TypeVar("Key")


class Queue:
    def __init__(self) -> None:
        self._absent: set[str] = set()  # jobs without a result that were not there last time

    def ended(self, jobs: Mapping[Key, Job]) -> dict[Key, str | None]:
        """The jobs that have ended, each with the reason if it failed."""
        found: dict[Key, str | None] = {}
        there = in_queue(jobs.values())
        absent = set()
        for key, job in jobs.items():
            if job.paths.result_pickle.exists():
                found[key] = error(job)
            elif job.job_id not in there:
                absent.add(job.job_id)
                # At first sight its result may be on its way through the file system.
                if job.job_id in self._absent:
                    found[key] = (
                        f"job {job.job_id} left the queue without a result; was it cancelled? "
                        f"See {job.paths.stderr}"
                    )
        self._absent = absent
        return found


def in_queue(jobs: Collection[Job]) -> set[str]:
    """The ids of those that are in the queue: all, while Slurm does not answer."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    ids = {job.job_id for job in jobs}
    return ids if done.returncode else ids & set(done.stdout.split())


def error(job: Job) -> str | None:
    """Why a job that has ended failed, if it did."""
    exception = job.exception()
    return None if exception is None else str(exception)
