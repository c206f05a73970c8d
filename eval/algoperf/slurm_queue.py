"""The state of our jobs in Slurm's queue, and the errors of those that failed.

submitit uses sacct, which needs a cluster that keeps accounts. Without accounts, it would wait
forever for a cancelled job; squeue works on every cluster.
"""

import subprocess
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import submitit

Job = submitit.Job[Any]
Key = TypeVar("Key")


class Queue:
    def __init__(self) -> None:
        self._absent: set[str] = set()  # jobs without a result that were not in the queue last time

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
                # The first time, its result may not have reached this file system yet.
                if job.job_id in self._absent:
                    found[key] = (
                        f"job {job.job_id} left the queue without a result; was it cancelled? "
                        f"See {job.paths.stderr}"
                    )
        self._absent = absent
        return found


def in_queue(jobs: Collection[Job]) -> set[str]:
    """The ids of the jobs in the queue; all ids if Slurm does not answer."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    ids = {job.job_id for job in jobs}
    return ids if done.returncode else ids & set(done.stdout.split())


def error(job: Job) -> str | None:
    """The reason why a job that has ended failed; None if it did not fail."""
    exception = job.exception()
    return None if exception is None else str(exception)
