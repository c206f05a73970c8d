"""AlgoPerf's score: the number of workloads on which a method reaches the target, and its speed.

Dahl et al., Benchmarking Neural Network Training Algorithms, 2023, section 4. https://arxiv.org/abs/2306.07179

With t the median over studies of a method's time to target on a workload (a miss is infinite),
t_best the smallest t of the pool, and t set to infinity where t > 4 t_best:

    r        = t / t_best
    rho(tau) = share of the workloads with r <= tau           (the performance profile)
    score    = 1/3 integral_1^4 rho(tau) dtau = mean over the workloads of max(0, (4 - r) / 3)

Time is anything positive: optimizer steps or seconds. Needs the standard library only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from statistics import fmean, median
from typing import Any, Literal

Record = Mapping[str, Any]  # one finished trial: a line of results.jsonl
Clock = Literal["steps", "seconds"]

CUTOFF = 4.0  # slower than this many times the best counts as a miss


@dataclass(frozen=True)
class Standing:
    """One method in one pool by one clock; all mappings go from workload to number."""

    times: Mapping[str, float]  # median over the studies, before the cutoff; inf is a miss
    ratios: Mapping[str, float]  # to the pool's best, after the cutoff

    @property
    def credits(self) -> dict[str, float]:
        return {workload: credit(ratio) for workload, ratio in self.ratios.items()}

    @property
    def score(self) -> float:
        return fmean(self.credits.values())

    @property
    def hits(self) -> int:
        """The number of workloads whose target the median study reaches, at any speed."""
        return sum(isfinite(time) for time in self.times.values())

    def profile(self, tau: float) -> float:
        """rho(tau): the share of workloads with a time to target of at most tau times the best."""
        return sum(ratio <= tau for ratio in self.ratios.values()) / len(self.ratios)

    def profile_corners(self) -> list[tuple[float, float]]:
        """(tau, rho(tau)) at tau = 1, at each jump of rho, and at tau = 4."""
        jumps = {ratio for ratio in self.ratios.values() if isfinite(ratio)}
        return [(tau, self.profile(tau)) for tau in sorted(jumps | {1.0, CUTOFF})]


def credit(ratio: float) -> float:
    """The credit for one workload: 1 for the fastest method, 0 for one 4 times slower or more."""
    return max(0.0, (CUTOFF - ratio) / (CUTOFF - 1))


def rank(times: Mapping[str, Mapping[str, float]]) -> dict[str, Standing]:
    """The standing of every method in the pool, best score first, then by name.

    times: method -> workload -> median time to target. A workload counts as missed by a method
    that lacks it, and counts even if no method reaches its target.
    """
    workloads = list(dict.fromkeys(workload for row in times.values() for workload in row))
    rows = {
        method: {workload: row.get(workload, inf) for workload in workloads}
        for method, row in times.items()
    }
    best = {workload: min(row[workload] for row in rows.values()) for workload in workloads}
    pool = {
        method: Standing(row, {w: _ratio(row[w], best[w]) for w in workloads})
        for method, row in rows.items()
    }
    return dict(sorted(pool.items(), key=lambda item: (-item[1].score, item[0])))


def median_time(trials: Iterable[Record], clock: Clock, num_studies: int) -> float:
    """Median time to target of one method on one workload; studies without a trial are misses.

    An even number of studies takes the mean of the middle two, as AlgoPerf does.
    """
    times = [time_to_target(trial, clock) for trial in trials]
    assert len(times) <= num_studies, f"{len(times)} trials in {num_studies} studies"
    return median(times + [inf] * (num_studies - len(times)))


def time_to_target(trial: Record, clock: Clock) -> float:
    """Steps or seconds until the target was reached; infinite for a miss or a failure."""
    time = trial["steps_to_target"] if clock == "steps" else trial["seconds"]["to_target"]
    return inf if time is None else time


def _ratio(time: float, best: float) -> float:
    if not isfinite(time) or time > CUTOFF * best:
        return inf
    return time / best if best > 0 else 1.0  # a log may say that it took no time
