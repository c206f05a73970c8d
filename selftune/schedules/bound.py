"""The convex bound on the final loss of a schedule, and the peak lr that minimizes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from selftune.schedules.schedule import Schedule

Norms = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Bound:
    """A bound on f(x_T) - f* for SGD on a convex f, as a function of the peak learning rate.

    Defazio et al., Optimal Linear Decay Learning Rate Schedules and Further Refinements, 2023,
    Theorem 10; Schaipp et al., The Surprising Agreement Between Convex Optimization Theory and
    Learning-Rate Scheduling, 2025, use it to compare schedules.
    https://arxiv.org/abs/2310.07831 https://arxiv.org/abs/2501.18965

    It is a worst case: use it for ratios between schedules, not to predict losses.

    distance, noise, tail: its three terms at a peak lr of 1: that of the distance to a solution,
        that of the gradient norms for the average iterate, and that which the last iterate adds.
    """

    distance: float
    noise: float
    tail: float

    def at(self, lr: float) -> float:
        """The bound at a peak learning rate."""
        return self.distance / lr + lr * (self.noise + self.tail)

    @property
    def best_lr(self) -> float:
        """The peak learning rate with the smallest bound."""
        return math.sqrt(self.distance / (self.noise + self.tail))

    @property
    def value(self) -> float:
        """The bound at `best_lr`."""
        return 2 * math.sqrt(self.distance * (self.noise + self.tail))


def convex_bound(factors: np.ndarray, gradient_norms: Norms, distance: float) -> Bound:
    """The bound for a schedule's multipliers, computed in O(steps).

    gradient_norms: one number, or norms at equal distances over the run.
    """
    if not 0 < distance < math.inf:
        raise ValueError(f"distance must be positive and finite, got {distance}")
    if not factors.any():
        raise ValueError("a schedule that is 0 at every step has no bound")
    noise = (factors * stretched(gradient_norms, len(factors))) ** 2
    if not noise.any():
        raise ValueError("gradient_norms are zero wherever the schedule is not: no lr is too large")
    tails = _sums_from(factors)  # sum of the multipliers from each step on
    noise_tails = _sums_from(noise)
    # Sums after step k, for all steps but the last. Steps after which all multipliers are 0 are
    # left out: their terms are 0 / 0.
    after, k = tails[1:], np.arange(len(factors) - 1)
    k = k[after > 0]
    last = np.sum(factors[k] / tails[k + 1] * noise_tails[k] / tails[k])
    return Bound(
        distance=float(distance**2 / (2 * tails[0])),
        noise=float(noise_tails[0] / (2 * tails[0])),
        tail=float(last / 2),
    )


def transfer_lr(lr: float, from_: Schedule, to: Schedule, gradient_norms: Norms = 1.0) -> float:
    """The peak lr for the schedule `to`, from one that was tuned with the schedule `from_`.

    It is multiplied by the ratio of the lrs that minimize their bounds. The schedules may have
    different numbers of steps. gradient_norms: as in `Schedule.bound`.
    """
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite, got {lr}")
    return lr * to.bound(gradient_norms).best_lr / from_.bound(gradient_norms).best_lr


def stretched(norms: Norms, num_steps: int) -> np.ndarray:
    """Norms at equal distances over a run, interpolated to each of its steps."""
    values = np.atleast_1d(np.asarray(norms, dtype=np.float64))
    if values.ndim != 1 or not len(values):
        raise ValueError(f"gradient_norms must be a number or a list, got shape {values.shape}")
    if not (np.isfinite(values) & (values >= 0)).all() or not values.any():
        raise ValueError("gradient_norms must be finite and not negative, and not all zero")
    places = np.arange(num_steps) * (len(values) / num_steps)
    return np.interp(places, np.arange(len(values)), values)


def _sums_from(values: np.ndarray) -> np.ndarray:
    # Added up from the end, as the total minus a running sum would lose digits.
    return np.cumsum(values[::-1])[::-1]
