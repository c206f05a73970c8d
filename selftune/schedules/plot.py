"""Plots of schedules. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from selftune.schedules.schedule import Schedule

POINTS = 400  # in a curve


def plot_schedules(
    schedules: Sequence[Schedule], labels: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Plot multipliers over the fraction of the run, with a line for each schedule."""
    if labels and len(labels) != len(schedules):
        raise ValueError(f"{len(labels)} labels for {len(schedules)} schedules")
    if ax is None:
        require_matplotlib()
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(5, 3), layout="constrained")
    for i, schedule in enumerate(schedules):
        total = schedule.length()  # not factors(): a schedule may count tokens, not steps
        steps = np.unique(np.linspace(0, total, min(total, POINTS) + 1).astype(int))
        multipliers = [schedule(int(step)) for step in steps]
        ax.plot(steps / total, multipliers, label=labels[i] if labels else None)
    ax.set(xlabel="fraction of the run", ylabel="multiplier of the peak lr", xlim=(0, 1))
    ax.set_ylim(0, None)
    if labels:
        ax.legend(frameon=False)
    return ax


def require_matplotlib() -> None:
    """Raise ImportError, with the extra to install, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'selftune[plot]'") from None
