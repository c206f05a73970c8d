"""The figure of a refinement, by matplotlib: the norms and the resulting schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selftune.schedules.named import linear
from selftune.schedules.plot import plot_schedules, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from selftune.refinement.refine import Refined


def picture(refined: Refined) -> Figure:
    """Plot the norms before and after smoothing, and the schedule compared with linear decay."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(refined.places, refined.norms, linewidth=0.5, color="0.75", label="norms")
    left.plot(refined.places, refined.smoothed, label="smoothed")
    decouple = refined.diagnostics.decouple
    name = "gradient norm" if decouple == "none" else "gradient norm x weight norm"
    left.set(xlabel="fraction of the run", ylabel=name, xlim=(0, 1), yscale="log")
    left.legend(frameon=False)
    assert refined.total_steps is not None, "a refined schedule has an end"
    beside = linear(refined.total_steps)
    plot_schedules((refined, beside), ("refined", "linear"), right)
    return figure
