"""A figure of pocket scores over published ones, with a panel for each field. Needs matplotlib."""

from collections.abc import Mapping, Sequence

from matplotlib import style as matplotlib_style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .plots import labelled, plain
from .svg import MUTED, PALETTE, PAPER, to_svg

# (method, published score, score at its own targets, score at easier ones)
Point = tuple[str, float, float, float]


@matplotlib_style.context(["default", PAPER])
def trust_plot(fields: Mapping[str, Sequence[Point]]) -> str:
    """Scatter plots: over each method's published score, its scores at both kinds of targets."""
    figure = Figure(figsize=(4.2 * max(1, len(fields)), 4.4), layout="constrained")
    panels = figure.subplots(1, max(1, len(fields)), sharey=True, squeeze=False)[0]
    for axes, (title, points) in zip(panels, fields.items(), strict=False):
        for row, (name, published, own, easier) in enumerate(sorted(points, key=lambda p: p[1])):
            axes.plot([published] * 2, [own, easier], color=MUTED, linewidth=0.6)
            axes.plot(published, own, "o", color=PALETTE[0][0], markersize=4.5)
            axes.plot(published, easier, "o", color=PALETTE[1][0], markersize=4.5, fillstyle="none")
            side = ("right", "left")[row % 2]  # so that names of neighbours do not overlap
            text = axes.text(published, max(own, easier) + 0.04, "", rotation=90, ha=side)
            plain(text, name)
        plain(axes.set_title("", loc="left"), title)
        axes.set(xlabel="published score", xlim=(-0.04, 1.0), ylim=(-0.04, 1.75))
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    panels[0].set_ylabel("score on the pocket suite")
    marks = [
        Line2D([], [], color=PALETTE[0][0], marker="o", linestyle=""),
        Line2D([], [], color=PALETTE[1][0], marker="o", linestyle="", fillstyle="none"),
    ]
    labelled(
        figure, marks, ["at the targets", "at easier ones"], loc="outside lower center", ncols=2
    )
    return to_svg(figure, "trust", "Pocket scores over published scores")
