"""Projected costs of a full run, computed from published step times.

hours of a study = steps x (published seconds per step of the NAdamW baseline) x overhead, where
overhead is how much longer a step of the method took than a step of NAdamW at pocket scale, on
one machine. Evaluations come on top, at the published rate and duration.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..results import Record
from . import published
from .benchmark import Rules
from .published import FIELDS

REFERENCE = "nadamw"  # the method of eval/methods that is the published baseline's rule
# Sources of the baseline's step times: field, submission. v0.6 has the same machine as v0.5; the
# steps of its own baseline took between .08 and 1.9 s on one workload, fastmri.
BASELINES = {
    "v0.5": ("published-v0.5", "baseline"),
    "v0.6": ("published-v0.5", "baseline"),
    "v0.6-a100": ("published-v0.6-a100", "nadamw_baselinev05"),
}


@dataclass(frozen=True)
class Projection:
    """One study of one workload."""

    workload: str
    step_seconds: float  # the baseline's published seconds per step
    overhead: float
    step_hint: int
    budget: float  # seconds
    evaluation_share: float  # seconds of evaluation per second of training

    @property
    def hinted_hours(self) -> float:
        """Training hours for step_hint steps, or for as many of them as the budget allows."""
        return min(self.step_hint * self.step_seconds * self.overhead, self.budget) / 3600

    @property
    def most_hours(self) -> float:
        """Training hours of a run that never reaches its target."""
        return self.budget / 3600

    @property
    def horizons(self) -> float:
        """The number of steps in the budget, as a multiple of step_hint."""
        return self.budget / (self.step_seconds * self.overhead * self.step_hint)


def project(rules: Rules, workloads: Iterable[str], overhead: float = 1.0) -> list[Projection]:
    """A projection for each of the workloads, held-out ones included."""
    field, baseline = BASELINES[rules.name]
    runs = [r for r in published.records(FIELDS[field]) if r["method"] == baseline]
    projections = []
    for name in workloads:
        here = [r for r in runs if r["workload"] == name]
        projections.append(
            Projection(
                workload=name,
                step_seconds=median(r["seconds"]["step"] for r in here if r["seconds"]["step"]),
                overhead=overhead,
                step_hint=rules.all_workloads[name].step_hint,
                budget=rules.seconds(name),
                evaluation_share=median(
                    r["seconds"]["evaluation"] / r["seconds"]["training"] for r in here
                ),
            )
        )
    return projections


def overhead(records: Sequence[Record], method: str) -> float:
    """A method's seconds per step divided by NAdamW's: the median over the workloads.

    Raises ValueError if no workload has trials of both.
    """
    ratios = []
    for workload in {record["workload"] for record in records}:
        of = {
            name: [
                r["seconds"]["training"] / r["steps"]
                for r in records
                if (r["workload"], r["method"]) == (workload, name) and r["steps"]
            ]
            for name in (method, REFERENCE)
        }
        if of[method] and of[REFERENCE]:
            ratios.append(median(of[method]) / median(of[REFERENCE]))
    if not ratios:
        raise ValueError(
            f"no workload has trials of both {method} and {REFERENCE}; run "
            f"python -m eval.self_tuning --method {method},{REFERENCE} and give its results.jsonl"
        )
    return median(ratios)
