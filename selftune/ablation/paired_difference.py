"""Paired differences between runs with equal seeds, and their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

CONFIDENCE = 0.95
CAUTION = "of 20 such intervals, one excludes zero by chance"


@dataclass(frozen=True)
class Difference:
    """The mean difference of pairs and its confidence interval, by Student's t.

    margin: half the length of the interval; infinite for a single pair, which shows no spread.
    """

    mean: float
    margin: float

    @staticmethod
    def of(ones: Sequence[float], others: Sequence[float]) -> Difference:
        """The mean of one - other over pairs of runs with the same seed."""
        differences = [one - other for one, other in zip(ones, others, strict=True)]
        if not differences:
            raise ValueError("a difference needs at least one pair of runs, got none")
        count = len(differences)
        if count == 1:
            return Difference(differences[0], math.inf)
        quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
        return Difference(fmean(differences), quantile * stdev(differences) / math.sqrt(count))

    @staticmethod
    def of_finite(ones: Sequence[float], others: Sequence[float]) -> Difference | None:
        """`of`, or None if any run failed, as leaving out failed seeds would flatter a method."""
        return Difference.of(ones, others) if all(map(math.isfinite, (*ones, *others))) else None

    @property
    def clear(self) -> bool:
        """Whether zero lies outside the interval."""
        return abs(self.mean) > self.margin

    def __str__(self) -> str:
        if math.isinf(self.margin):
            return f"{self.mean:+.4g}"
        digits = 1 - math.floor(math.log10(self.margin)) if self.margin else 4
        digits = min(max(digits, 0), 12)  # two digits of the margin
        return f"{self.mean:+.{digits}f} ± {self.margin:.{digits}f}"


def finite_mean(values: Iterable[float]) -> float:
    """The mean over the runs that did not fail; nan if all did."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan
