"""The figure of an ablation: gains with their intervals, a panel for each workload."""

from math import isfinite

from matplotlib import style as matplotlib_style

from ..reporting.plots import DASHED, panels
from ..reporting.svg import INK, MUTED, PALETTE, PAPER, to_svg
from .tables import Grid

BETTER, WORSE = PALETTE[0][0], PALETTE[1][0]


@matplotlib_style.context(["default", PAPER])
def gains(method: str, rows: Grid) -> str:
    """Every cell's gain: studies as dots, the mean as a bar, its 95 % interval as a line."""
    first, *others = rows
    baseline = rows[first]
    figure, axes_of_workloads = panels(
        len(baseline), "gain in the metric", 0.6 + 0.17 * len(others), sharey=True
    )
    for axes, (workload, base) in zip(axes_of_workloads, baseline.items(), strict=True):
        sign = 1 if base.rules["higher_is_better"] else -1
        for row, name in enumerate(others):
            cell = rows[name].get(workload)
            gain = cell.gain(base) if cell else None
            if cell is None or gain is None:
                axes.plot(0, row, "x", color=MUTED, markersize=5)
                continue
            colour = INK if not gain.clear else BETTER if gain.mean > 0 else WORSE
            each = [sign * (cell.finals[s] - base.finals[s]) for s in cell.finals]
            axes.plot(each, [row] * len(each), "o", color=colour, markersize=3, alpha=0.5)
            axes.plot(gain.mean, row, "|", color=colour, markersize=10, markeredgewidth=2)
            if isfinite(gain.margin):
                ends = [gain.mean - gain.margin, gain.mean + gain.margin]
                axes.plot(ends, [row, row], color=colour, linewidth=1)
        axes.axvline(0, **DASHED)
        axes.set_title(workload, loc="left", fontweight="bold", parse_math=False)
        axes.set_yticks(range(len(others)), ["/".join(name) for name in others])
        axes.set_ylim(len(others) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
    return to_svg(figure, f"gains-{method}", f"Gains over {'/'.join(first)} of {method}")
