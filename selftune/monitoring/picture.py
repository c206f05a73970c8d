"""The figure of a monitor's rows, by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selftune.monitoring.destinations import Row
from selftune.schedules.plot import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "step size": ("step_size", "d"),
    "gradient norm": ("gradient_norm",),
    "update / weights": ("update_ratio",),
    "distance from the average": ("distance_from_average",),
}


def picture(rows: list[Row]) -> Figure:
    """A panel with a logarithmic axis for each kind of number, over the steps.

    Raises ValueError without a row.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("the monitor has no rows yet: train for `every` steps first")
    names = list(dict.fromkeys(name for row in rows for name in row))
    panels = {
        title: [name for name in names if name.partition("/")[0] in wanted]
        for title, wanted in PANELS.items()
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    figure = Figure(figsize=(3.2 * len(panels), 2.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    steps = [row["step"] for row in rows]
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for name in lines:
            values = [row.get(name, float("nan")) for row in rows]
            ax.plot(steps, values, label=name, marker="." if len(rows) < 3 else None)
        ax.set(xlabel="step", title=title)
        if any(row.get(name, 0.0) > 0 for row in rows for name in lines):
            ax.set_yscale("log")
        if len(lines) > 1:
            ax.legend(frameon=False)
    return figure
