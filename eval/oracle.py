"""The oracle ratio: a method's steps to the target divided by those of an oracle.

There are two oracles. One is the best configuration of the search that set a workload's target,
with its median steps over the runs with new seeds; at least half of these reach the target, which
is their median. The other is the fastest recorded method on each workload.

A method's ratio is the geometric mean over the workloads; a miss counts with the whole budget.
Unlike the score, it does not saturate, and the ratio to the search does not depend on the pool.
"""

from collections.abc import Mapping
from math import exp, inf, isfinite, log
from statistics import fmean

from .pool import Pool

Oracle = Mapping[str, float]  # workload -> steps


def of_recorded(pool: Pool) -> dict[str, float]:
    """By workload, the steps of the fastest recorded method of the pool that reaches the target."""
    recorded = [entrant.name for entrant in pool.entrants if entrant.recorded]
    best = {
        workload: min((pool.steps[name].times[workload] for name in recorded), default=inf)
        for workload in pool.workloads
    }
    return {workload: steps for workload, steps in best.items() if isfinite(steps)}


def ratios(pool: Pool, name: str, oracle: Oracle) -> dict[str, float]:
    """An entrant's steps divided by the oracle's, by workload; a miss counts with the budget."""
    times = pool.steps[name].times
    return {
        workload: min(times[workload], pool.most_steps(workload)) / steps
        for workload, steps in oracle.items()
    }


def ratio(pool: Pool, name: str, oracle: Oracle) -> float:
    """The geometric mean of an entrant's ratios, over the workloads that the oracle has."""
    return exp(fmean(map(log, ratios(pool, name, oracle).values())))
