"""Pictures of schedules. Needs matplotlib, which is imported when one is drawn."""

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
    """The multipliers over the fraction of the run, one line a schedule."""
    if labels and len(labels) != len(schedules):
        raise ValueError(f"{len(labels)} labels for {len(schedules)} schedules")
    if ax is None:
        require_matplotlib()
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(5, 3), layout="constrained")
    for i, schedule in enumerate(schedules):
        total = schedule.length()  # and no more: a schedule may be as long as its run has tokens
        steps = np.unique(np.linspace(0, total, min(total, POINTS) + 1).astype(int))
        multipliers = [schedule(int(step)) for step in steps]
        ax.plot(steps / total, multipliers, label=labels[i] if labels else None)
    ax.set(xlabel="fraction of the run", ylabel="multiplier of the peak lr", xlim=(0, 1))
    ax.set_ylim(0, None)
    if labels:
        ax.legend(frameon=False)
    return ax


def require_matplotlib() -> None:
    """Raise the ImportError that names the extra."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'selftune[plot]'") from None
