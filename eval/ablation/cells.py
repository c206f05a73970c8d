"""The cells of an ablation, from its records: each result, and its gain over the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isnan, nan
from statistics import median
from typing import Any

from selftune.ablation.paired_difference import Difference, finite_mean

from ..results import Record
from .axes import NONE, REFINED, Axes


@dataclass(frozen=True)
class Cell:
    """The results of one method, workload, schedule and average over the studies.

    finals: the validation metric at the end, by study; nan where a trial failed.
    steps_to_aim: by study, as a share of step_hint; inf where the target was not reached.
    recording: the length, as a share of step_hint, of the run whose norms gave the schedule.
    """

    method: str
    workload: str
    schedule: str
    average: str
    finals: dict[int, float]
    tests: dict[int, float]
    steps_to_aim: dict[int, float]
    recording: float
    rules: dict[str, Any]

    @property
    def failed(self) -> int:
        return sum(map(isnan, self.finals.values()))

    @property
    def final(self) -> float:
        """The mean over the studies that did not fail."""
        return finite_mean(self.finals.values())

    @property
    def median_steps(self) -> float:
        return median(self.steps_to_aim.values())

    def gain(self, baseline: "Cell") -> Difference | None:
        """The improvement over the baseline, paired by study; None if a trial of either failed.

        It is positive if the cell is better, whether the metric is minimized or maximized.
        """
        studies = sorted(self.finals.keys() & baseline.finals.keys())
        own, others = ([c.finals[study] for study in studies] for c in (self, baseline))
        if not studies:
            return None
        pair = (own, others) if self.rules["higher_is_better"] else (others, own)
        return Difference.of_finite(*pair)


def cells(records: Sequence[Record], axes: Axes) -> list[Cell]:
    """All cells of the crossed axes, with methods and workloads in the order of their records.

    A cell has the studies of its workload's baseline; a study without a record counts as failed.
    """
    ablated = [record for record in records if "ablated" in record]
    groups = dict.fromkeys((record["ablated"], record["workload"]) for record in ablated)
    found = []
    for method, workload in groups:
        group = [r for r in ablated if (r["ablated"], r["workload"]) == (method, workload)]
        studies = sorted({record["study"] for record in group})
        by_schedule = {
            name: {r["study"]: r for r in group if r["schedule"] == name} for name in axes.schedules
        }
        for schedule in axes.schedules:
            own = by_schedule[schedule]
            for average in axes.averages:
                parts = {s: _part(own[s], average) if s in own else {} for s in studies}
                found.append(
                    Cell(
                        method=method,
                        workload=workload,
                        schedule=schedule,
                        average=average,
                        finals={s: _number(parts[s].get("final_validation")) for s in studies},
                        tests={s: _number(parts[s].get("test")) for s in studies},
                        steps_to_aim={s: _steps(own.get(s), parts[s]) for s in studies},
                        recording=_recording(own),
                        rules=group[0]["rules"],
                    )
                )
    return found


def _part(record: Record, average: str) -> dict[str, Any]:
    """The entry of the record for an average, or for the last weights."""
    if record["outcome"] == "failed":
        return {}
    if average != NONE:
        return record.get("averages", {}).get(average, {})  # none from before it was an axis
    curve = [[step, metric] for step, _, metric in record["curve"]]
    return {name: record[name] for name in ("final_validation", "test")} | {"curve": curve}


def _steps(record: Record | None, part: dict[str, Any]) -> float:
    if record is None or not part:
        return inf
    higher, aim = record["rules"]["higher_is_better"], record["aim"]
    for step, metric in part["curve"]:
        if metric is not None and (metric >= aim if higher else metric <= aim):
            return step / record["rules"]["step_hint"]
    return inf


def _recording(records: dict[int, Record]) -> float:
    """The steps of the recording run, which is as long as the run with the refined schedule."""
    return max(
        (r["rules"]["budget"] for r in records.values() if r["schedule"] == REFINED), default=0.0
    )


def _number(value: float | None) -> float:
    return nan if value is None else value
