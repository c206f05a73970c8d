"""Tests of whether one method is faster than another, over pairs of trials with equal seeds."""

import warnings
from dataclasses import dataclass
from math import exp, isclose, log
from statistics import fmean

import numpy as np

from .pool import Entrant, Pool
from .scoring import time_to_target

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A method and another one over the pairs of trials that both have.

    A miss counts as slower than any hit; two misses are a tie. p values are two-sided, because
    the data decided which method is called the first.
    """

    first: str
    other: str
    pairs: int
    faster: int  # pairs in which the first method is
    slower: int
    ratio: float  # geometric mean of first / other, a miss counted at the budget
    sign: float  # p of the sign test, which drops ties
    wilcoxon: float  # p of Wilcoxon's signed-rank test of the logarithms of the ratios


def compare(pool: Pool, first: str, other: str) -> Comparison:
    """Compare two entrants. Raises KeyError for a name that is not in the pool."""
    entrants = {entrant.name: entrant for entrant in pool.entrants}
    pairs = _pairs(pool, entrants[first], entrants[other])
    faster = sum(mine < its for mine, its, _ in pairs)
    slower = sum(mine > its for mine, its, _ in pairs)
    logs = [log(min(mine, most) / min(its, most)) for mine, its, most in pairs]
    return Comparison(
        first,
        other,
        len(pairs),
        faster,
        slower,
        exp(fmean(logs)) if logs else 1.0,
        sign_test(faster, slower),
        _wilcoxon(logs),
    )


def against_leader(pool: Pool) -> list[Comparison]:
    """The first of the pool against each other method, in the order of the scores."""
    first, *others = (entrant.name for entrant in pool.entrants)
    return [compare(pool, first, other) for other in others]


def sign_test(faster: int, slower: int) -> float:
    """The two-sided p value; 1 if all pairs are ties."""
    from scipy.stats import binomtest

    return float(binomtest(faster, faster + slower).pvalue) if faster + slower else 1.0


def meaning(pairs: int) -> str:
    """A sentence that says in how many of the pairs a method must be faster to exceed chance."""
    needed = next((n for n in range(pairs + 1) if 2 * n > pairs and _is_clear(n, pairs)), None)
    if needed is None:
        return (
            f"What a difference means: {pairs} pair{'s' * (pairs != 1)} of trials cannot tell two "
            "methods apart, whatever the scores say."
        )
    return (
        f"What a difference means: of {pairs} pairs (a workload and a study, with equal seeds) a "
        f"method has to be faster in {needed} before chance becomes an unlikely cause (sign test, "
        f"p < {LEVEL:g}); studies of one workload are similar, so that p tends to be too small."
    )


def _is_clear(faster: int, pairs: int) -> bool:
    return sign_test(faster, pairs - faster) < LEVEL


def _pairs(pool: Pool, first: Entrant, other: Entrant) -> list[tuple[float, float, float]]:
    """(steps of the first, steps of the other, budget) of every pair."""
    found = []
    for workload in pool.workloads:
        mine, its = ({t["study"]: t for t in e.trials[workload]} for e in (first, other))
        most = pool.most_steps(workload)
        found += [
            (time_to_target(mine[k], "steps"), time_to_target(its[k], "steps"), most)
            for k in sorted(mine.keys() & its.keys())
        ]
    return found


def _wilcoxon(logs: list[float]) -> float:
    from scipy.stats import wilcoxon

    decided = [value for value in logs if not isclose(value, 0, abs_tol=1e-12)]
    if not decided:
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small samples; the number of pairs is shown
        return float(np.asarray(wilcoxon(decided))[1])
