"""Rank correlations of two lists, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

RESAMPLES = 2000
LEVEL = 0.95
FEWEST = 3  # pairs; with two, a rank correlation is always 1 or -1


@dataclass(frozen=True)
class Correlation:
    """Rank correlations of paired numbers, each with its 95 % bootstrap interval over pairs."""

    pairs: int
    spearman: float
    kendall: float  # tau-b
    spearman_interval: tuple[float, float]
    kendall_interval: tuple[float, float]

    @staticmethod
    def of(first: Sequence[float], second: Sequence[float]) -> "Correlation | None":
        """None for fewer than three pairs, or if all values of one list are equal.

        Infinite numbers are the highest, and equal to each other.
        """
        both = np.array([first, second], dtype=float)
        if both.shape[1] < FEWEST or any(len(np.unique(row)) == 1 for row in both):
            return None
        rng = np.random.default_rng(0)  # the same records give the same interval
        drawn = both[:, rng.integers(both.shape[1], size=(RESAMPLES, both.shape[1]))]
        return Correlation(
            both.shape[1],
            float(spearman(both[0], both[1])),
            float(kendall(both[0], both[1])),
            _interval(spearman(*drawn)),
            _interval(kendall(*drawn)),
        )


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rho along the last axis; nan if all values of one list are equal."""
    ranks = [rankdata(each, axis=-1) for each in (first, second)]
    return _cosine(*(r - r.mean(axis=-1, keepdims=True) for r in ranks))


def kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kendall's tau-b along the last axis; nan if all values of one list are equal."""
    ranks = [rankdata(each, axis=-1) for each in (first, second)]
    orders = [np.sign(r[..., :, None] - r[..., None, :]) for r in ranks]
    return _cosine(*(order.reshape(*order.shape[:-2], -1) for order in orders))


def _cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    product = (first * second).sum(axis=-1)
    return np.divide(product, lengths, out=np.full(product.shape, np.nan), where=lengths > 0)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The interval (low, high) over the bootstrap samples that have a correlation."""
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
