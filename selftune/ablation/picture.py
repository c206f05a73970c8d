"""The figure of an ablation, by matplotlib: each cell's difference from the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from selftune.ablation.names import shown
from selftune.schedules.plot import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from selftune.ablation.table import Ablation, Cell


def ablation_picture(ablation: Ablation) -> Figure:
    """Plot each cell's difference from the first: confidence interval, mean, and seeds as dots."""
    require_matplotlib()
    from matplotlib.figure import Figure

    first, *cells = ablation.cells
    figure = Figure(figsize=(6, 1.2 + 0.28 * len(cells)), layout="constrained")
    ax = figure.subplots()
    for row, cell in enumerate(cells):
        if cell.difference is None:
            ax.text(0, row, " diverged", va="center", color="0.4")
            continue
        colour = {"better": "C0", "worse": "C1", "": "0.4"}[ablation.verdict(cell)]
        each = np.subtract(cell.values, first.values)
        ax.plot(each, [row] * len(each), "o", color=colour, markersize=3, alpha=0.5)
        if np.isfinite(cell.difference.margin):
            ax.errorbar(cell.difference.mean, row, xerr=cell.difference.margin, color=colour)
        ax.plot(cell.difference.mean, row, "|", color=colour, markersize=12)
    ax.axvline(0, color="0.7", linewidth=0.8)
    better = "better to the right" if ablation.higher_is_better else "better to the left"
    ax.set(xlabel=f"difference from {_label(first)}; {better}")
    ax.set_yticks(range(len(cells)), [_label(cell) for cell in cells])
    ax.set_ylim(len(cells) - 0.4, -0.6)
    return figure


def _label(cell: Cell) -> str:
    # matplotlib reads text between dollar signs as a formula.
    return f"{shown(cell.schedule)}/{shown(cell.average)}".replace("$", r"\$")
