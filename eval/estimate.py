"""Estimates of how long a plan will take, from the seconds of the recorded baselines."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from .results import Record
from .trial import Trial

SECONDS_TO_START = 5  # to start a process and load its libraries and data
SECONDS_PER_STEP_HINT = 35  # the size of workloads; used where no trial is recorded


def minutes(trials: Iterable[Trial], recorded: Sequence[Record], jobs: int) -> float:
    return sum(seconds(trial, recorded) for trial in trials) / jobs / 60


def seconds(trial: Trial, recorded: Sequence[Record]) -> float:
    """A trial's expected seconds: the recorded method's mean, or else those of its whole budget."""
    here = [r for r in recorded if r["workload"] == trial.workload.name and r["steps"] > 0]
    same = [r for r in here if r["method"] == trial.method and r["rules"]["budget"] == trial.budget]
    if same:
        return SECONDS_TO_START + fmean(map(_seconds, same))
    if here:
        return SECONDS_TO_START + fmean(_seconds(r) / r["steps"] for r in here) * trial.steps
    return SECONDS_TO_START + SECONDS_PER_STEP_HINT * trial.budget


def _seconds(record: Record) -> float:
    return record["seconds"]["training"] + record["seconds"]["evaluation"]
