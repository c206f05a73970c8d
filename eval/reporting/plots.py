"""The report's figures: profile, learning curves, steps to the target. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite, nan
from statistics import median
from typing import Any

from matplotlib import style as matplotlib_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text

from .. import strictness
from ..pool import Entrant, Pool
from ..scoring import CUTOFF, Clock, Record, Standing, median_time, time_to_target
from .svg import MUTED, PAPER, Style, to_svg

DASHED = {"color": MUTED, "linewidth": 0.8, "linestyle": (0, (4, 3))}  # targets and budgets


@matplotlib_style.context(["default", PAPER])
def performance_profile(
    standings: Mapping[str, Standing], styles: Mapping[str, Style], clock: Clock = "steps"
) -> str:
    """rho(tau): the share of workloads solved within tau times the fastest method's time."""
    figure = Figure(figsize=(7.2, max(3.4, 0.22 * len(standings))), layout="constrained")
    axes = figure.subplots()
    hair = 0.003 * min(7, len(standings))  # sets coinciding lines apart
    for row, (name, standing) in enumerate(standings.items()):
        corners = standing.profile_corners()
        offset = hair * (1 - 2 * row / max(1, len(standings) - 1))
        axes.step(
            [tau for tau, _ in corners],
            [rho + offset for _, rho in corners],
            where="post",
            **_line(styles[name]),
        )
    axes.set(
        xlim=(1, CUTOFF),
        ylim=(-0.04, 1.04),
        xlabel=f"τ: {clock} to the target, relative to the fastest method",
        ylabel="share of workloads solved",
    )
    labelled(
        axes,
        axes.get_lines(),
        [f"{name}  {standing.score:.3f}" for name, standing in standings.items()],
        title="method, area under its line",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
    )
    return to_svg(figure, "profile", "Performance profile of all methods")


@matplotlib_style.context(["default", PAPER])
def learning_curves(pool: Pool, styles: Mapping[str, Style]) -> str:
    """The validation metric over steps until the target: thin studies, a thick median."""
    figure, axes_of_workloads = panels(len(pool.workloads), "steps / step_hint", height=2.05)
    for axes, (workload, rules) in zip(axes_of_workloads, pool.rules.items(), strict=True):
        for entrant in reversed(pool.entrants):  # the best on top
            style = styles[entrant.name]
            for trial in entrant.trials[workload]:
                axes.plot(*_curve(trial), color=style.colour, linewidth=0.5, alpha=0.45)
                if trial["outcome"] == "failed":
                    _mark_failure(axes, trial, style)
            points = median_curve(entrant, workload)
            steps = [step / rules["step_hint"] for step, _ in points]
            axes.plot(steps, [value for _, value in points], **_line(style))
            if points and _counts(entrant, workload, *points[-1]):
                axes.plot(steps[-1], points[-1][1], "o", color=style.colour, markersize=3.5)
        axes.axhline(rules["target"], **DASHED)
        axes.set_title(workload, loc="left", fontweight="bold", pad=15, parse_math=False)
        arrow = "↑" if rules["higher_is_better"] else "↓"
        below_title = {"transform": axes.transAxes, "verticalalignment": "bottom"}
        below_title |= {"parse_math": False}
        axes.text(0, 1.02, f"{rules['metric']} {arrow}", color=MUTED, **below_title)
        axes.set_xlim(0, None)
        axes.set_ylim(*_view(pool, workload))
        _name_the_unseen(axes, pool, workload)
    _legend(figure, pool, styles)
    return to_svg(figure, "curves", "Learning curves of all methods on every workload")


@matplotlib_style.context(["default", PAPER])
def steps_to_target(pool: Pool, styles: Mapping[str, Style]) -> str:
    """Each study's steps to the target, their median, and the misses."""
    height = 0.55 + 0.17 * len(pool.entrants)
    xlabel = "steps to the target / step_hint"
    figure, axes_of_workloads = panels(len(pool.workloads), xlabel, height, sharey=True)
    names = [entrant.name for entrant in pool.entrants]
    edge = 1.08 * pool.budget
    for axes, (workload, rules) in zip(axes_of_workloads, pool.rules.items(), strict=True):
        for row, entrant in enumerate(pool.entrants):
            colour, hint = styles[entrant.name].colour, rules["step_hint"]
            times = [time_to_target(t, "steps") / hint for t in entrant.trials[workload]]
            middle = pool.steps[entrant.name].times[workload] / hint
            hits = [time for time in times if isfinite(time)]
            axes.plot(hits, [row] * len(hits), "o", color=colour, markersize=4, alpha=0.55)
            if isfinite(middle):
                axes.plot(middle, row, "|", color=colour, markersize=11, markeredgewidth=2)
            if len(hits) < entrant.num_studies:
                axes.plot(edge, row, "x", color=colour, markersize=5, markeredgewidth=1.5)
        axes.axvline(pool.budget, **DASHED)
        axes.set_title(workload, loc="left", fontweight="bold", parse_math=False)
        axes.set(xlim=(0, 1.16 * pool.budget), ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.grid(axis="y", visible=False)
    return to_svg(figure, "steps", "Steps to the target of every study")


@matplotlib_style.context(["default", PAPER])
def strictness_curves(
    pool: Pool, styles: Mapping[str, Style], settled: strictness.Settled | None = None
) -> str:
    """The score as a function of how much harder the targets are; a band where it is a range."""
    figure = Figure(figsize=(7.2, max(3.4, 0.22 * len(pool.entrants))), layout="constrained")
    axes = figure.subplots()
    points = strictness.curve(pool, settled)
    lines = []
    for entrant in pool.entrants:
        style = styles[entrant.name]
        ranges = [(100 * level, *scores[entrant.name]) for level, scores in points]
        known = [(level, low) for level, low, high in ranges if low == high]
        levels, lows, highs = zip(*ranges, strict=True)
        axes.fill_between(levels, lows, highs, color=style.colour, alpha=0.1, linewidth=0)
        lines += axes.plot([x for x, _ in known], [y for _, y in known], **_line(style))
    axes.axvline(0, **DASHED)
    axes.set(
        xlim=(-100 * strictness.FURTHEST, 100 * strictness.FURTHEST),
        ylim=(-0.04, 1.04),
        xlabel="how much harder the targets are, %",
        ylabel="score",
    )
    names = [entrant.name for entrant in pool.entrants]
    labelled(axes, lines, names, title="method", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return to_svg(figure, "strictness", "Score of every method over the strictness of the targets")


def panels(
    number: int, xlabel: str, height: float, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A panel for each workload, four in a row."""
    columns = min(4, number)
    rows = -(-number // columns)
    size = (max(4.8, 2.75 * columns), height * rows + 0.7)
    figure = Figure(size, layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.03))
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for unused in grid[number:]:
        unused.remove()
    for lowest in grid[max(0, number - columns) : number]:
        lowest.set_xlabel(xlabel)
    return figure, grid[:number]


def median_curve(entrant: Entrant, workload: str) -> list[tuple[int, float]]:
    """(step, median metric over the studies) until the median reaches the target.

    A study that has reached its target keeps its last value, so that the median crosses the
    target where the score's median time is; one that failed or never ran is infinitely bad.
    """
    trials = entrant.trials[workload]
    steps = sorted({step for trial in trials for step, _, _ in trial["curve"]})
    absent = entrant.num_studies - len(trials)
    points = []
    for step in steps:
        rules = trials[0]["rules"]
        worst = -inf if rules["higher_is_better"] else inf
        value = median([_value_at(trial, step, worst) for trial in trials] + [worst] * absent)
        if not isfinite(value):
            continue
        points.append((step, value))
        if _counts(entrant, workload, step, value):
            break
    return points


def _value_at(trial: Record, step: int, worst: float) -> float:
    past = [value for at, _, value in trial["curve"] if at <= step]
    stopped = not trial["curve"] or step > trial["curve"][-1][0]
    if not past or past[-1] is None or (stopped and trial["outcome"] != "hit"):
        return worst
    return past[-1]


def _counts(entrant: Entrant, workload: str, step: int, value: float) -> bool:
    """Whether the median stays at the target, and is not there for a while only."""
    rules = entrant.trials[workload][0]["rules"]
    reached = value >= rules["target"] if rules["higher_is_better"] else value <= rules["target"]
    return reached and step >= median_time(entrant.trials[workload], "steps", entrant.num_studies)


def _curve(trial: Record) -> tuple[list[float], list[float]]:
    """Steps as fractions of step_hint, and the metric, nan where it was not finite."""
    hint = trial["rules"]["step_hint"]
    curve = trial["curve"]
    values = [nan if value is None else value for _, _, value in curve]
    return [step / hint for step, _, _ in curve], values


def _mark_failure(axes: Axes, trial: Record, style: Style) -> None:
    finite = [(step, value) for step, _, value in trial["curve"] if value is not None]
    if finite:
        step, value = finite[-1]
        axes.plot(
            step / trial["rules"]["step_hint"],
            value,
            "x",
            color=style.colour,
            markersize=6,
            markeredgewidth=1.5,
        )


def _view(pool: Pool, workload: str) -> tuple[float, float]:
    """The range of the metric that is shown, which diverging trials do not extend.

    From the best value to the median of all trials at their third evaluation.
    """
    rules = pool.rules[workload]
    better = max if rules["higher_is_better"] else min
    curves = [
        values
        for entrant in pool.entrants
        for trial in entrant.trials[workload]
        if (values := _values(trial))
    ]
    ends = [rules["target"]]
    if curves:
        ends += [median(values[:3][-1] for values in curves), better(map(better, curves))]
    margin = 0.06 * (max(ends) - min(ends)) or 0.05 * abs(max(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _name_the_unseen(axes: Axes, pool: Pool, workload: str) -> None:
    low, high = axes.get_ylim()
    unseen = [
        entrant.name
        for entrant in pool.entrants
        if not any(low <= v <= high for t in entrant.trials[workload] for v in _values(t))
    ]
    if unseen:
        worst = 0.04 if pool.rules[workload]["higher_is_better"] else 0.88
        text = f"not in view: {', '.join(unseen)}"
        axes.text(
            0.98, worst, text, transform=axes.transAxes, ha="right", color=MUTED, parse_math=False
        )


def _values(trial: Record) -> list[float]:
    return [value for _, _, value in trial["curve"] if value is not None]


def _legend(figure: Figure, pool: Pool, styles: Mapping[str, Style]) -> None:
    lines = [Line2D([], [], **_line(styles[entrant.name])) for entrant in pool.entrants]
    labelled(
        figure,
        [*lines, Line2D([], [], **DASHED)],
        [*(entrant.name for entrant in pool.entrants), "target"],
        loc="outside lower center",
        ncols=4 if len(pool.workloads) > 2 else 2,
    )


def labelled(
    where: Axes | Figure, lines: Sequence[Line2D], names: Sequence[str], **options: Any
) -> None:
    """A legend with these names, whatever characters they have.

    matplotlib leaves out labels that start with _, and reads dollar signs as formulas.
    """
    legend = where.legend(lines, list(map(str, range(len(lines)))), **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        plain(text, name)


def plain(text: Text, name: str) -> None:
    """Show the text as it is, not as a formula."""
    text.set_parse_math(False)
    text.set_text(name)


def _line(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "linestyle": style.dash, "linewidth": style.width}
