"""The oracle ratio: a method's steps to the target over those of the best that is known.

Two oracles. The search that set a workload's target: the best of its configurations, by the
median of the runs with new seeds that the target is made from, so that at least half of them reach
it. And the recorded methods: the fastest of them on each workload.

A method's ratio is the geometric mean over the workloads, with a miss counted at the budget. Unlike
the score it does not saturate, and the ratio to the search does not depend on the pool.
"""

from collections.abc import Mapping
from math import exp, inf, isfinite, log
from statistics import fmean

from .pool import Pool

Oracle = Mapping[str, float]  # workload -> steps


def of_recorded(pool: Pool) -> dict[str, float]:
    """The steps of the fastest recorded method of the pool, where one reaches the target."""
    recorded = [entrant.name for entrant in pool.entrants if entrant.recorded]
    best = {
        workload: min((pool.steps[name].times[workload] for name in recorded), default=inf)
        for workload in pool.workloads
    }
    return {workload: steps for workload, steps in best.items() if isfinite(steps)}


def ratios(pool: Pool, name: str, oracle: Oracle) -> dict[str, float]:
    """An entrant's steps over the oracle's, by workload; a miss is counted at the budget."""
    times = pool.steps[name].times
    return {
        workload: min(times[workload], pool.most_steps(workload)) / steps
        for workload, steps in oracle.items()
    }


def ratio(pool: Pool, name: str, oracle: Oracle) -> float:
    """The geometric mean of an entrant's ratios, over the workloads that the oracle has."""
    return exp(fmean(map(log, ratios(pool, name, oracle).values())))
