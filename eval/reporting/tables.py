"""The report's tables, in one form for the terminal, Markdown and HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median

from ..intervals import Interval
from ..overfitting import lost_again
from ..pool import Entrant, Pool
from ..scoring import CUTOFF, Record, Standing, median_time

INTERVAL = (
    "95 % interval: of the score, from 2,000 bootstrap samples of the workloads and of their "
    "studies, the same ones for all methods. "
)


@dataclass(frozen=True)
class Cell:
    text: str
    credit: float | None = None  # 0 to 1, where the cell earns some
    best: bool = False  # of its column


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    text_columns: int = 1  # the first ones, set left; the others are numbers
    own: frozenset[str] = frozenset()  # first cells of the rows that belong to this run


def steps_table(
    pool: Pool, spread: bool = True, intervals: Mapping[str, Interval] | None = None
) -> Table:
    """Scores and steps to the target. spread: whether to show the scores of single studies."""
    by_study = pool.scores_by_study()
    spread = spread and len(by_study[pool.entrants[0].name]) > 1
    rows = []
    for entrant in pool.entrants:
        standing, scores = pool.steps[entrant.name], by_study[entrant.name]
        total = [Cell(f"{standing.score:.3f}")]
        if intervals is not None:
            low, high = intervals[entrant.name]
            total += [Cell(f"{low:.2f}-{high:.2f}")]
        total += [Cell(f"{min(scores):.2f}-{max(scores):.2f}")] if spread else []
        total += [Cell(f"{standing.hits}/{len(pool.workloads)}")]
        cells = [
            time_cell(
                entrant, standing, workload, f"{time / pool.rules[workload]['step_hint']:.2f}"
            )
            for workload, time in standing.times.items()
        ]
        rows.append((Cell(entrant.name), *total, *cells))
    for entrant in pool.unranked:
        total = [Cell("-")] * (2 + spread + (intervals is not None))
        rows.append((Cell(entrant.name), *total, *_unranked_cells(entrant, pool)))
    within = ["95 % interval"] if intervals is not None else []
    head = ("method", "score", *within, *(["by study"] if spread else []), "hits")
    return Table(
        "Steps to the target, as a fraction of step_hint",
        (*head, *pool.workloads),
        tuple(rows),
        "Median over the studies. "
        + ("Without a score: ran only a part of the plan. " if pool.unranked else "")
        + (INTERVAL if intervals is not None else "")
        + ("By study: lowest and highest score when each study is scored alone. " if spread else "")
        + legend(rows, pool),
        own=own(pool),
    )


def seconds_table(pool: Pool) -> Table:
    """Scores by seconds, among methods that were timed on the same machine."""
    entrants = {entrant.name: entrant for entrant in pool.entrants}
    sources = {"this run": pool.seconds(recorded=False), "recorded": pool.seconds(recorded=True)}
    rows = []
    for source, standings in sources.items():
        alone = len(standings) == 1  # no other method to compare with
        for name, standing in standings.items():
            cells = [
                time_cell(entrants[name], standing, workload, f"{time:.1f}")
                for workload, time in standing.times.items()
            ]
            cells = [Cell(cell.text) for cell in cells] if alone else cells
            score = "-" if alone else f"{standing.score:.3f}"
            rows.append((Cell(name), Cell(source), Cell(score), *cells))
    return Table(
        "Seconds to the target",
        ("method", "timed in", "score", *pool.workloads),
        tuple(rows),
        "Median over the studies; training and preparing for evaluation, without evaluation. "
        "Seconds depend on the machine and on --jobs: compare and score them only among rows "
        "timed in one run. " + legend(rows, pool),
        text_columns=2,
        own=own(pool),
    )


def tests_table(pool: Pool) -> Table:
    rows = []
    for entrant in (*pool.entrants, *pool.unranked):
        cells = [_test_cell(trials) for trials in entrant.trials.values()]
        rows.append((Cell(entrant.name), *cells))
    return Table(
        "Test metric, reported and not scored",
        ("method", *pool.workloads),
        tuple(rows),
        "Median over the studies, where each stopped: at its target or at the end of the budget.",
        own=own(pool),
    )


def configurations_table(pool: Pool, weight_decays: Mapping[str, str]) -> Table:
    rows = [
        (
            Cell(entrant.name),
            Cell(_short(entrant.summary)),
            Cell(weight_decays.get(entrant.summary, "as its source has it")),
        )
        for entrant in (*pool.entrants, *pool.unranked)
    ]
    return Table(
        "Configurations, one for all workloads",
        ("method", "configuration", "weight decay"),
        tuple(rows),
        text_columns=3,
        own=own(pool),
    )


def troubles_table(pool: Pool) -> Table:
    """All trials that did not reach their target, with reasons."""
    rows = [
        (Cell(entrant.name), Cell(workload), Cell(what), Cell(studies))
        for entrant in (*pool.entrants, *pool.unranked)
        for workload in pool.workloads
        for what, studies in _troubles(entrant, workload, pool)
    ]
    return Table(
        "Where methods missed or failed, and why",
        ("method", "workload", "what happened", "studies"),
        tuple(rows),
        "" if rows else "Every trial reached its target.",
        text_columns=4,
        own=own(pool),
    )


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def time_cell(entrant: Entrant, standing: Standing, workload: str, shown: str) -> Cell:
    trials, hits = entrant.trials[workload], entrant.hits(workload)
    time, ratio = standing.times[workload], standing.ratios[workload]
    if not isfinite(time):
        others = {trial["outcome"] for trial in trials} - {"hit"}
        shown = "none" if not trials else "failed" if others == {"failed"} else "miss"
    elif not isfinite(ratio):
        shown = f"({shown})"
    partial = 0 < hits < entrant.num_studies
    text = f"{shown} {hits}/{entrant.num_studies}" if partial else shown
    return Cell(text, standing.credits[workload], ratio == 1)


def _unranked_cells(entrant: Entrant, pool: Pool) -> list[Cell]:
    """The cells of an entrant that ran only a part of the plan: medians over its trials."""
    cells = []
    for workload, trials in entrant.trials.items():
        time = median_time(trials, "steps", len(trials)) if trials else inf
        outcomes = {trial["outcome"] for trial in trials}
        shown = f"{time / pool.rules[workload]['step_hint']:.2f}" if isfinite(time) else "miss"
        shown = "failed" if outcomes == {"failed"} else shown if trials else "none"
        part = 0 < entrant.hits(workload) < entrant.num_studies
        text = f"{shown} {entrant.hits(workload)}/{entrant.num_studies}" if part else shown
        cells.append(Cell(text))
    return cells


def legend(rows: Iterable[tuple[Cell, ...]], pool: Pool) -> str:
    """An explanation of the marks that occur in the workloads' columns."""
    texts = [cell.text for row in rows for cell in row[-len(pool.workloads) :]]
    meanings = {
        "miss": "miss: the budget ended first.",
        "failed": "failed: diverged, raised or was killed.",
        "none": "none: not run.",
        "(": f"In brackets: slower than {CUTOFF:g} x the best, no credit.",
        "/": "2/3: in 2 of 3 studies.",
    }
    return " ".join(text for mark, text in meanings.items() if any(mark in t for t in texts))


def _test_cell(trials: Sequence[Record]) -> Cell:
    values = [trial["test"] for trial in trials if trial["test"] is not None]
    if not values:
        return Cell("-")
    share = f" {len(values)}/{len(trials)}" if len(values) < len(trials) else ""
    return Cell(f"{median(values):#.4g}{share}")


def _troubles(entrant: Entrant, workload: str, pool: Pool) -> list[tuple[str, str]]:
    """(what happened, in which studies), with equal reasons combined and all misses combined."""
    rules, trials = pool.rules[workload], entrant.trials[workload]
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial["outcome"] == "failed":
            found.setdefault(_short(f"failed: {trial['reason']}"), []).append(trial["study"])
    missed = [trial for trial in trials if trial["outcome"] == "miss"]
    if missed:
        # A best value just short of the target must not be rounded to the target.
        best = ", ".join(map(_best, missed))
        what = f"missed {rules['metric']} {number(rules['target'], 5)}: best {best}"
        found[what] = [trial["study"] for trial in missed]
    absent = set(range(entrant.num_studies)) - {trial["study"] for trial in trials}
    if absent:
        ranked = entrant not in pool.unranked
        found["not run" + (", counted as a miss" if ranked else "")] = sorted(absent)
    return [(what, ", ".join(map(str, studies))) for what, studies in found.items()]


def _best(missed: Record) -> str:
    """The best metric, and also the last one if the best is at the target."""
    later = f" but {number(missed['final_validation'], 5)} later" if lost_again(missed) else ""
    return number(missed["best_validation"], 5) + later


def own(pool: Pool) -> frozenset[str]:
    """Names of the rows that belong to this run."""
    mine = (*pool.run, *(entrant for entrant in pool.unranked if not entrant.recorded))
    return frozenset(entrant.name for entrant in mine)


def _short(text: str, length: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
