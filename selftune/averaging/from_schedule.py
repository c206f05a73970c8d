"""FromSchedule: the average at a constant learning rate that corresponds to a given decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selftune.averaging.profiles import Length, Profile, Weighted


@dataclass(frozen=True)
class FromSchedule(Weighted):
    """An average for a run that stays at the peak learning rate, in place of a schedule's decay.

    For fixed gradients, the last iterate of a run with the multipliers w equals the sum of
    (w[t - 1] - w[t]) x[t] over the iterates x of a run that stays at the peak.
    Tian et al., WSM: Decay-Free Learning Rate Schedule via Checkpoint Merging, 2025.
    https://arxiv.org/abs/2507.17634

    schedule: step -> multiplier. It may not rise again after its peak. If it has a warm-up, train
        with that warm-up too.
    total_steps: by default that of the schedule. In mid-run the average is that of the decay so
        far, and empty before the decay begins.
    """

    schedule: Callable[[int], float]
    total_steps: int | None = None
    start: Length = field(default=0, init=False)  # the last step at the peak

    def __post_init__(self) -> None:
        if self.total_steps is None:
            total_steps = getattr(self.schedule, "total_steps", None)
            if total_steps is None:
                raise ValueError(f"FromSchedule needs total_steps=: {self.schedule} has none")
            object.__setattr__(self, "total_steps", total_steps)
        object.__setattr__(self, "start", self._last_peak())
        super().__post_init__()

    def lengths(self) -> tuple[str, ...]:
        return ("every",)

    def in_steps(self, total_steps: int | None) -> Profile:
        if total_steps not in (None, self.total_steps):
            raise ValueError(
                f"total_steps is {total_steps}, but the schedule's is {self.total_steps}: "
                "resample the schedule"
            )
        return super().in_steps(self.total_steps)

    def describe(self) -> dict[str, Any]:
        assert self.total_steps is not None
        # A Schedule can be saved exactly; for any other function we save samples.
        to_dict = getattr(self.schedule, "to_dict", None)
        if to_dict is not None:
            return {**super().describe(), "schedule": to_dict()}
        samples = [float(self.schedule(i * (self.total_steps - 1) // 16)) for i in range(17)]
        return {**super().describe(), "schedule": samples}

    def retained(self, previous: int, step: int) -> float:
        return min(1.0, self._mass(previous) / self._mass(step))

    def _mass(self, step: int) -> float:
        assert self.total_steps is not None
        step += int(self.start)
        if step >= self.total_steps:
            return 1.0
        peak = self.schedule(int(self.start))
        return (peak - self.schedule(step)) / peak

    def _last_peak(self) -> int:
        assert self.total_steps is not None
        w = np.array([self.schedule(step) for step in range(self.total_steps)])
        if not w.size or not np.isfinite(w).all() or w.max() <= 0 or w.min() < 0:
            raise ValueError(
                f"FromSchedule needs multipliers in [0, inf), not all 0, got {w[:3]}..."
            )
        peak = int(np.flatnonzero(w == w.max())[-1])
        rises = np.flatnonzero(np.diff(w[peak:]) > 1e-9 * w.max())
        if rises.size:
            at = peak + int(rises[0])
            raise ValueError(
                "FromSchedule needs a schedule that falls after its peak, "
                f"but it rises from {w[at]:.6g} to {w[at + 1]:.6g} after step {at}"
            )
        return peak
