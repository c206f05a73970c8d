"""score.html: the contest's tables with its profile and a chart for each workload."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

from matplotlib import style as matplotlib_style

from ..reporting.html import document, figure, html_table
from ..reporting.plots import DASHED, panels, performance_profile
from ..reporting.svg import PAPER, Style, styles, to_svg
from ..reporting.tables import Table
from .contest import Contest
from .scores import time

PROFILE_CAPTION = (
    "Performance profile by seconds: the share of the workloads whose target a submission reaches "
    "within τ times the seconds of the fastest one, after the rules on held-out workloads. The "
    "column `exact` is the area under the line. Coinciding lines are drawn slightly apart."
)
TIMES_CAPTION = (
    "Seconds to the target as a fraction of the workload's external-tuning budget: every study "
    "(dots) and the median (bars). A cross at the right edge stands for studies that never "
    "reached it. The dashed line is the budget."
)


def page(contest: Contest, tables: Sequence[Table], texts: Sequence[str]) -> str:
    """The report as one HTML file."""
    look = styles(contest.entrants, [])
    first, *others = tables
    heading = first.title
    return document(
        heading,
        [
            f"<h1>{escape(heading)}</h1>",
            *(f'<p class="note">{escape(text)}</p>' for text in texts[:-1]),
            html_table(first, look),
            figure(performance_profile(contest.seconds, look, "seconds"), PROFILE_CAPTION),
            figure(seconds_to_target(contest, look), TIMES_CAPTION),
            *(html_table(table, look) for table in others),
            f"<p>{escape(texts[-1])}</p>",
        ],
    )


@matplotlib_style.context(["default", PAPER])
def seconds_to_target(contest: Contest, look: Mapping[str, Style]) -> str:
    """Every study's seconds to the target, their median, and the misses, workload by workload."""
    names = [entrant.name for entrant in contest.entrants]
    xlabel = "seconds to the target / budget"
    height = 0.55 + 0.17 * len(names)
    drawn, axes_of_workloads = panels(len(contest.workloads), xlabel, height, sharey=True)
    for axes, workload in zip(axes_of_workloads, contest.workloads, strict=True):
        rules = contest.workload(workload)
        # Pocket workloads have no budget in seconds: the axis ends with the longest trial.
        longest = max(
            t["seconds"]["training"] for e in contest.entrants for t in e.trials[workload]
        )
        budget = rules["budget"]
        hint = rules.get("seconds_hint") or max(longest, 1e-9) / budget
        for row, entrant in enumerate(contest.entrants):
            colour = look[entrant.name].colour
            times = [time(trial, "seconds") / hint for trial in entrant.trials[workload]]
            hits = [value for value in times if isfinite(value)]
            middle = contest.seconds[entrant.name].times[workload] / hint
            axes.plot(hits, [row] * len(hits), "o", color=colour, markersize=3.5, alpha=0.55)
            if isfinite(middle):
                axes.plot(middle, row, "|", color=colour, markersize=10, markeredgewidth=2)
            if len(hits) < len(times) or not times:
                axes.plot(1.08 * budget, row, "x", color=colour, markersize=4.5)
        axes.axvline(budget, **DASHED)
        axes.set_title(workload, loc="left", fontweight="bold", parse_math=False)
        axes.set(xlim=(0, 1.16 * budget), ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.grid(axis="y", visible=False)
    return to_svg(drawn, "seconds", "Seconds to the target of every study")
