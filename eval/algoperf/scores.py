"""AlgoPerf's scoring, as its code does it: held-out workloads, medians and the trapezoid.

`eval.scoring` integrates the profile exactly; this module does it numerically, as
scoring/performance_profile.py of mlcommons/submissions_algorithms. Needs the standard library only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, isfinite
from statistics import median

from ..scoring import CUTOFF, Clock, Record, Standing, rank, time_to_target
from ..workload import Metric
from .benchmark import relaxed

POINTS = 100  # of the profile, from 1 to the cutoff

Times = Mapping[str, Mapping[str, float]]  # submission -> workload -> median time to target


def official_score(standing: Standing) -> float:
    """The trapezoidal rule on 100 points of the profile; within .0051 of the exact integral."""
    taus = [1 + (CUTOFF - 1) * point / (POINTS - 1) for point in range(POINTS)]
    heights = [standing.profile(tau) for tau in taus]
    return sum(left + right for left, right in pairwise(heights)) / 2 / (POINTS - 1)


def standings(
    times: Times, workloads: Sequence[str], held_out: Mapping[str, str]
) -> dict[str, Standing]:
    """The standing of every submission on `workloads`, best official score first.

    held_out: held-out workload -> the one it varies, its base. If a held-out workload is missed
    or slower than four times the best, its base counts as missed; if a base is missed, so are its
    held-out workloads.
    """
    columns = [*workloads, *held_out]
    rows = {name: {w: row.get(w, inf) for w in columns} for name, row in times.items()}
    kept = {name: dict(row) for name, row in rows.items()}
    for row in kept.values():
        for variant, base in held_out.items():
            if not isfinite(row[base]):
                row[variant] = inf
    best = {workload: min(row[workload] for row in kept.values()) for workload in columns}
    for row in kept.values():
        for variant, base in held_out.items():
            if not isfinite(row[variant]) or row[variant] > CUTOFF * best[variant]:
                row[base] = inf
    # On the bases, the official code applies the cutoff before held-out workloads remove any, and
    # `rank` afterwards; that removes no more, because the best time can only get slower.
    for workload in workloads:
        for row in kept.values():
            if row[workload] > CUTOFF * best[workload]:
                row[workload] = inf
    ranked = rank({name: {w: row[w] for w in workloads} for name, row in kept.items()})
    order = sorted(ranked, key=lambda name: (-official_score(ranked[name]), name))
    return {
        name: replace(ranked[name], times={w: rows[name][w] for w in workloads}) for name in order
    }


def median_time(trials: Iterable[Record], clock: Clock, relaxation: float = 0.0) -> float:
    """Median time to target over the studies there are; infinite if there is none."""
    return median([time(trial, clock, relaxation) for trial in trials] or [inf])


def time(trial: Record, clock: Clock, relaxation: float = 0.0) -> float:
    """Seconds or steps until a target relaxed by this fraction was reached; else infinite."""
    if relaxation == 0:
        return time_to_target(trial, clock)
    rules = trial["rules"]
    metric = Metric(rules["metric"], rules["higher_is_better"])
    target = relaxed(rules["target"], metric, relaxation)
    for (step, _, value), seconds in zip(trial["curve"], trial["seconds"]["curve"], strict=True):
        if value is not None and metric.reached(value, target):
            return step if clock == "steps" else seconds
    return inf
