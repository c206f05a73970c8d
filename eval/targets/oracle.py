"""The steps that the best configuration of a search takes to the target that it set."""

from collections.abc import Iterable, Mapping
from math import inf, isfinite
from statistics import median_low
from typing import Any

from ..pool import COMPARABLE
from ..results import read
from ..rules import rules_of
from ..strictness import first_reached
from ..workload import Workload
from .protocol import log, seeds_of_best


def searched_steps(
    workloads: Iterable[Workload], rules: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """The steps for each workload in `rules` whose search log is of the version in them.

    rules: by workload, those of records.
    """
    steps = {w.name: _steps(w, rules[w.name]) for w in workloads if w.name in rules}
    return {name: steps[name] for name in rules if isfinite(steps.get(name, inf))}


def _steps(workload: Workload, rules: Mapping[str, Any]) -> float:
    """The median over the runs with new seeds, of which at least half reach the target."""
    records = read(log(workload))
    agreed = [name for name in COMPARABLE if name != "target"]
    if any(rules_of(record).get(name) != rules.get(name) for record in records for name in agreed):
        return inf
    again = seeds_of_best(workload, records)
    settled = workload.step_hint if workload.judged_at_end else 0
    times = [first_reached(record, rules["target"], settled) for record in again]
    return median_low(times) if times else inf
