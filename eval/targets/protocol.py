"""Targets by AlgoPerf's protocol, computed from the search log of each workload.

`python -m eval.set_targets` writes the logs: the calibrated baseline's family at quasi-random
configurations for 1x `step_hint`, and the best of them again with new seeds. The target is the
median of what those reached: of their best validation metrics, or of their last ones where a
workload is judged at its end. No target is typed anywhere.
"""

from pathlib import Path
from statistics import median

from ..results import Record, read
from ..trial import checksum
from ..workload import Workload

FOLDER = Path(__file__).parent
LEAST_TRIALS = 32  # configurations that a valid target needs
NUM_SEEDS = 5  # runs of the best one


def log(workload: Workload) -> Path:
    return FOLDER / f"{workload.name}.jsonl"


def target(workload: Workload) -> float:
    """The metric that a trial has to reach.

    Raises ValueError when the workload's log is incomplete or was made for another version of it.
    """
    records = read(log(workload))
    refuse_other_workload(workload, records)
    num_trials = len(searched(records))
    again = seeds_of_best(workload, records)
    if num_trials < LEAST_TRIALS or len(again) < NUM_SEEDS:
        raise ValueError(
            f"no target for {workload.name}: {log(workload)} holds {num_trials} of "
            f"{LEAST_TRIALS} configurations and {len(again)} of {NUM_SEEDS} seeds; "
            f"run `python -m eval.set_targets --workload {workload.name}`"
        )
    return median(reached(workload, record) for record in again)


def searched(records: list[Record]) -> list[Record]:
    """The runs of the search, in its order."""
    return sorted((r for r in records if r["method"] == "search"), key=lambda r: r["study"])


def best_trial(workload: Workload, records: list[Record]) -> Record | None:
    """The search's run that reached the best metric, not counting those that failed."""
    finished = [
        record
        for record in searched(records)
        if record["outcome"] == "done" and record["best_validation"] is not None
    ]
    if not finished:
        return None
    metric = workload.metric.best([reached(workload, record) for record in finished])
    return next(record for record in finished if reached(workload, record) == metric)


def seeds_of_best(workload: Workload, records: list[Record]) -> list[Record]:
    """The runs of the best configuration with new seeds."""
    winner = best_trial(workload, records)
    if winner is None:
        return []
    name = again(winner["study"])
    return sorted((r for r in records if r["method"] == name), key=lambda r: r["study"])


def again(trial: int) -> str:
    """What the runs of a configuration with new seeds are called."""
    return f"search {trial} again"


def refuse_other_workload(workload: Workload, records: list[Record]) -> None:
    """Raise ValueError if the log was made for another step_hint, batch size or data."""
    now = {
        "step_hint": workload.step_hint,
        "batch_size": workload.batch_size,
        "data": checksum(workload),
        "metric": workload.metric.name,
        "higher_is_better": workload.metric.higher_is_better,
    }
    for record in records:
        for name, value in now.items():
            before = record["rules"][name]
            if before != value:
                raise ValueError(
                    f"{log(workload)} was made with {name} {before!r}, {workload.name} has "
                    f"{value!r}; remove it and run `python -m eval.set_targets --workload "
                    f"{workload.name}`"
                )


def reached(workload: Workload, record: Record) -> float:
    """The metric that a run counts with: its best or its last one; infinitely bad if it failed."""
    metric = record["final_validation" if workload.judged_at_end else "best_validation"]
    if record["outcome"] == "done" and metric is not None:
        return metric
    return -float("inf") if workload.metric.higher_is_better else float("inf")
