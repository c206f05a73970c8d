"""Prediction of when v0.5's runner evaluates, which it does not announce to a submission."""

import time
from typing import Any

from .all_gpus import agreed


class Expected:
    """Predicts evaluations from the clock.

    The runner evaluates after the first step, and after a step that ends eval_period_time_sec or
    more after the last evaluation. A prediction that is early by a step or two costs a swap of
    weights, and a late one an evaluation at the wrong weights; so predictions are always early.
    """

    def __init__(self) -> None:
        self._start: float | None = None  # of the training loop
        self._begun = self._interval = 0.0  # start of this step; time since the start of the last
        self._step_seconds = 0.0  # the longest recent step
        self._first: int | None = None  # number of evaluations when this process started
        self._seen = 0

    def begin(self) -> None:
        """Note that a step begins."""
        now = time.monotonic()
        if self._start is None:
            self._start = self._begun = now
        self._interval, self._begun = now - self._begun, now

    def evaluation(self, period: float, results: list[tuple[int, dict[str, Any]]]) -> bool:
        """Whether an evaluation may follow this step. results: those of the evaluations so far."""
        assert self._start is not None, "data_selection comes before update_params"
        if self._first is None:
            self._first = self._seen = len(results)
        if len(results) == self._seen:  # no evaluation in the interval
            self._step_seconds = max(self._interval, 0.9 * self._step_seconds)
        self._seen = len(results)
        due = self._seen == self._first  # none in this process yet
        if not due:
            ended = self._start + results[-1][1]["total_duration"]
            due = time.monotonic() + 2 * self._step_seconds >= ended + period
        return agreed(due)
