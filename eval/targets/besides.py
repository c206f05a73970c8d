"""Other results of a search for a target: the steps to reach it, an easier and a harder target."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median, median_low
from typing import Any

from ..pool import COMPARABLE
from ..results import Record, read
from ..rules import rules_of
from ..strictness import first_reached
from ..workload import Workload
from .protocol import log, reached, searched, seeds_of_best


@dataclass(frozen=True)
class Besides:
    """Results by workload, for workloads whose search has the same version."""

    steps: Mapping[str, float]  # of the search's best configuration to the target
    easier: Mapping[str, float]  # the metric that the median configuration reaches
    harder: Mapping[str, float]  # the best metric of any run
    settled: Mapping[str, int]  # step_hint, for workloads that must hold their target

    @staticmethod
    def of(workloads: Iterable[Workload], rules: Mapping[str, Mapping[str, Any]]) -> "Besides":
        """rules: by workload, the rules of the records to compare with the searches."""
        logs = {
            workload: records
            for workload in workloads
            if workload.name in rules and (records := _records_of(workload, rules[workload.name]))
        }
        steps = {w.name: _steps(w, r, rules[w.name]["target"]) for w, r in logs.items()}
        easier = {w.name: median(reached(w, one) for one in searched(r)) for w, r in logs.items()}
        harder = {w.name: w.metric.best([reached(w, one) for one in r]) for w, r in logs.items()}
        settled = {w.name: w.step_hint for w in logs if w.must_hold_target}
        return Besides(
            _finite(steps, rules), _finite(easier, rules), _finite(harder, rules), settled
        )


def _records_of(workload: Workload, rules: Mapping[str, Any]) -> list[Record]:
    """The search's records; none if there was no search, or one of a version other than `rules`."""
    records = read(log(workload))
    agreed = [name for name in COMPARABLE if name != "target"]
    is_other = any(rules_of(r).get(name) != rules.get(name) for r in records for name in agreed)
    return [] if is_other or not searched(records) else records


def _steps(workload: Workload, records: list[Record], target: float) -> float:
    """The lower median of the steps to the target over the runs with new seeds; inf if none."""
    settled = workload.step_hint if workload.must_hold_target else 0
    again = seeds_of_best(workload, records)
    times = [first_reached(record, target, settled) for record in again]
    return median_low(times) if times else inf


def _finite(numbers: Mapping[str, float], order: Iterable[str]) -> dict[str, float]:
    return {name: numbers[name] for name in order if isfinite(numbers.get(name, inf))}
