"""Targets by AlgoPerf's protocol, computed from the search log of each workload.

`python -m eval.set_targets` writes the logs: the calibrated baseline's family at quasi-random
configurations for 1x `step_hint`, and the best of them again with new seeds. The target is the
median over these repetitions of the best validation metric, or of the last one if a workload must
hold its target. No target is typed by hand.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from ..fingerprint import fingerprint
from ..results import Record, read
from ..rules import rules_of
from ..trial import checksum
from ..workload import Workload

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Sizes:
    """The numbers of runs from which a target is made."""

    configurations: int
    seeds: int  # runs of the best configuration

    def __str__(self) -> str:
        numbers = ((self.configurations, "configuration"), (self.seeds, "seed"))
        return " and ".join(f"{number} {one}{'s' * (number > 1)}" for number, one in numbers)


PROTOCOL = Sizes(configurations=32, seeds=5)


def log(workload: Workload) -> Path:
    """The file that records the search; for a user's workload it is beside its source."""
    if workload.place is None:
        return FOLDER / f"{workload.name}.jsonl"
    return workload.place.file.parent / f"{workload.name}.targets.jsonl"


def sizes(records: Iterable[Record]) -> Sizes:
    """The planned size of the search in a log, the largest of several; PROTOCOL if it is empty.

    Logs from before November 2026 do not contain it; their searches have PROTOCOL's size.
    """
    planned = [Sizes(**record.get("protocol", asdict(PROTOCOL))) for record in records]
    return Sizes(
        max((size.configurations for size in planned), default=PROTOCOL.configurations),
        max((size.seeds for size in planned), default=PROTOCOL.seeds),
    )


def target(workload: Workload) -> float:
    """The metric that a trial has to reach.

    Raises ValueError when the workload's log is incomplete or was made for another version of it.
    """
    records = read(log(workload))
    refuse_other_workload(workload, records)
    wanted, num_trials = sizes(records), len(searched(records))
    again = seeds_of_best(workload, records)
    if num_trials < wanted.configurations or len(again) < wanted.seeds:
        raise ValueError(
            f"no target for {workload.name}: {log(workload)} holds {num_trials} of "
            f"{wanted.configurations} configurations and {len(again)} of {wanted.seeds} seeds; "
            f"run `{command(workload, wanted)}`"
        )
    return median(reached(workload, record) for record in again)


def command(workload: Workload, sizes: Sizes = PROTOCOL) -> str:
    """The command that makes a target."""
    options = f" --trials {sizes.configurations} --seeds {sizes.seeds}"
    return f"python -m eval.set_targets --workload {workload.argument}" + (
        options if sizes != PROTOCOL else ""
    )


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
    """The name of the runs of a configuration with new seeds."""
    return f"search {trial} again"


def refuse_other_workload(workload: Workload, records: list[Record]) -> None:
    """Raise ValueError if the log was made for another step_hint, batch size, data or code."""
    now = {
        "step_hint": workload.step_hint,
        "batch_size": workload.batch_size,
        "data": checksum(workload),
        "code": fingerprint(workload),
        "metric": workload.metric.name,
        "higher_is_better": workload.metric.higher_is_better,
    }
    for record in records:
        for name, value in now.items():
            before = rules_of(record)[name]
            if before != value:
                raise ValueError(
                    f"{log(workload)} was made with {name} {before!r}, {workload.name} has "
                    f"{value!r}; remove it and run `{command(workload)}`"
                )


def reached(workload: Workload, record: Record) -> float:
    """The metric that counts for a run: its best or its last one; infinitely bad if it failed."""
    metric = record["final_validation" if workload.must_hold_target else "best_validation"]
    if record["outcome"] == "done" and metric is not None:
        return metric
    return -float("inf") if workload.metric.higher_is_better else float("inf")
