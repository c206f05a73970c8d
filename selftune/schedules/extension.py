"""Extension of a running schedule beyond its planned end, at the same peak learning rate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np

from selftune.schedules.bound import Norms, convex_bound
from selftune.schedules.named import wsd
from selftune.schedules.schedule import Schedule

MODES = ("cooldown", "two_stage")
LAST_COOLDOWN = 0.2  # of the whole run, in two stages
TOLERANCE = 0.05  # of the peak lr; the bound is flatter than that


def extend(
    schedule: Schedule,
    at_step: int,
    total_steps: int,
    mode: Literal["cooldown", "two_stage"] = "cooldown",
    gradient_norms: Norms = 1.0,
) -> Schedule:
    """A longer run that begins with the first `at_step` steps of a schedule, at the same peak lr.

    The best peak lr of a longer run is smaller. Schaipp et al., The Surprising Agreement Between
    Convex Optimization Theory and Learning-Rate Scheduling, 2025, choose the rest of the run such
    that the convex bound of the longer run is smallest at the same peak lr as that of the planned
    run. https://arxiv.org/abs/2501.18965

    mode: "cooldown" holds the multiplier of `at_step`, then decays linearly to 0, for as long as
        the bound requires; "two_stage" holds a fraction of that multiplier, and decays over the
        last 20 % of the run.
    gradient_norms: as in `Schedule.bound`.
    Warns if no length of the cooldown, or no level of the second stage, keeps the best peak lr
    within 5 % of the planned one.
    """
    factors = schedule.factors()
    if mode not in MODES:
        raise ValueError(f"mode is one of {', '.join(MODES)}, got {mode!r}")
    if not 0 < at_step < len(factors) < total_steps:
        raise ValueError(
            f"need 0 < at_step < the {len(factors)} planned steps < total_steps, "
            f"got at_step {at_step} and total_steps {total_steps}"
        )
    rest = total_steps - at_step
    left = rest - np.arange(rest)  # steps to the end, at each step of the rest
    last = min(rest, round(LAST_COOLDOWN * total_steps))
    wanted = convex_bound(factors, gradient_norms, 1.0).best_lr

    def tail(x: float) -> np.ndarray:
        """The rest of the run, with a cooldown over a fraction x of it, or at the level x."""
        if mode == "cooldown":
            return np.minimum(1, left / (x * rest))
        return x * np.minimum(1, left / last)

    def excess(x: float) -> float:
        """How far the best peak lr of the whole run lies above the planned run's, relatively."""
        whole = np.concatenate([factors[:at_step], factors[at_step] * tail(x)])
        return convex_bound(whole, gradient_norms, 1.0).best_lr / wanted - 1

    x = _largest_root(excess)
    if x is None:
        x, off = 1.0, excess(1.0)
        if abs(off) > TOLERANCE:
            warnings.warn(
                f"no {mode} keeps the peak lr over {total_steps} steps: the longer run wants it "
                f"{1 + off:.2f} times as large",
                stacklevel=2,
            )
    cooldown, level = (x, 1.0) if mode == "cooldown" else (last / rest, x)
    return schedule.cut(at_step).then(wsd(rest, cooldown) * (level * factors[at_step]))


def _largest_root(f: Callable[[float], float]) -> float | None:
    from scipy.optimize import brentq  # takes most of a second, and few runs are extended

    grid = np.linspace(0, 1, 41)[1:]
    signs = np.sign([f(x) for x in grid])
    changes = np.flatnonzero(signs[1:] != signs[:-1])
    if not len(changes):
        return None
    last = changes[-1]
    return float(brentq(f, grid[last], grid[last + 1]))  # pyright: ignore[reportArgumentType]
