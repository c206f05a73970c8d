"""The report's tables, once, for the terminal, Markdown and HTML alike."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf, isfinite
from statistics import fmean, median
from typing import Protocol

from .. import oracle, pairs, step_times, strictness
from ..intervals import Interval, oracle_intervals, score_intervals
from ..oracle import Oracle
from ..overfitting import lost_again
from ..pool import Entrant, Pool
from ..scoring import CUTOFF, Record, Standing, median_time
from ..step_times import StepTimes
from ..strictness import Settled, Targets


class Searches(Protocol):
    """What the searches for the targets say besides: `targets.besides.Besides`."""

    @property
    def steps(self) -> Oracle: ...
    @property
    def easier(self) -> Targets: ...
    @property
    def harder(self) -> Targets: ...
    @property
    def settled(self) -> Settled: ...


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
    own: frozenset[str] = frozenset()  # first cells of the rows that are this run's


@dataclass(frozen=True)
class Tables:
    """The tables of a report, in their order."""

    steps: Table
    oracle: Table
    pairs: Table
    levels: Table
    calibrated: Table
    seconds: Table
    tests: Table
    workloads: Table
    configurations: Table
    troubles: Table

    @staticmethod
    def of(
        pool: Pool, weight_decays: Mapping[str, str], searches: Searches, times: StepTimes | None
    ) -> "Tables":
        """weight_decays: from a method's one-line configuration to how it decays weights."""
        return Tables(
            steps=steps_table(pool, intervals=score_intervals(pool)),
            oracle=oracle_table(pool, searches.steps),
            pairs=pairs_table(pool),
            levels=levels_table(pool, searches),
            calibrated=calibrated_table(pool, times),
            seconds=seconds_table(pool),
            tests=tests_table(pool),
            workloads=workloads_table(pool, searches),
            configurations=configurations_table(pool, weight_decays),
            troubles=troubles_table(pool),
        )

    def __iter__(self) -> Iterator[Table]:
        return (getattr(self, each.name) for each in fields(self))


def steps_table(
    pool: Pool, spread: bool = True, intervals: Mapping[str, Interval] | None = None
) -> Table:
    """The score and what it is made of; spread: whether to show the scores of single studies."""
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
            _time_cell(
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
        + _legend(rows, pool),
        own=_own(pool),
    )


def oracle_table(pool: Pool, searched: Oracle, by_workload: bool = True) -> Table:
    """The oracle ratios, best first; by_workload: whether to show what they are made of."""
    title = "Oracle ratio: steps over those of the best known"
    if not searched:
        caption = "Not known: no workload here has the log of a search for its target."
        return Table(title, ("method",), (), caption, own=_own(pool))
    intervals, recorded = oracle_intervals(pool, searched), oracle.of_recorded(pool)
    totals = {entrant.name: oracle.ratio(pool, entrant.name, searched) for entrant in pool.entrants}
    rows = []
    for name in sorted(totals, key=lambda name: totals[name]):
        low, high = intervals[name]
        cells = [f"{totals[name]:.2f}", f"{low:.2f}-{high:.2f}"]
        cells += [f"{oracle.ratio(pool, name, recorded):.2f}"] if recorded else []
        its = oracle.ratios(pool, name, searched)
        for workload in pool.workloads if by_workload else []:
            missed = not isfinite(pool.steps[name].times[workload])
            cells.append(f"{'>' * missed}{its[workload]:.2f}" if workload in its else "-")
        best = totals[name] == min(totals.values())
        rows.append((Cell(name), Cell(cells[0], best=best), *map(Cell, cells[1:])))
    head = ("method", "to search", "95 % interval", *(["to recorded"] if recorded else []))
    return Table(
        title,
        (*head, *(pool.workloads if by_workload else ())),
        tuple(rows),
        "To search: steps to the target over those of the best configuration of the search that "
        "set the target, as a geometric mean over the workloads with a miss counted at the budget; "
        "1.30 is 30 % more steps than who tunes NAdamW for each workload alone, and other methods "
        "in the pool do not change it. "
        + ("To recorded: the same over the fastest recorded method's. " if recorded else "")
        + (">: a miss. " if any(">" in cell.text for row in rows for cell in row) else "")
        + _lacking(pool, searched),
        own=_own(pool),
    )


def _lacking(pool: Pool, searched: Oracle) -> str:
    number = len(pool.workloads) - len(searched)
    what = f"{number} of the {len(pool.workloads)} workloads" if number > 1 else "one workload"
    return f"Without {what}, of which no search of this version is there." if number else ""


def pairs_table(pool: Pool) -> Table:
    """The first of the pool against each other method."""
    rows = [
        (
            Cell(c.other),
            *(Cell(str(number)) for number in (c.pairs, c.faster, c.slower)),
            Cell(f"{c.ratio:.2f}"),
            *(Cell(f"{p:.3f}" if p >= 0.001 else "<.001") for p in (c.sign, c.wilcoxon)),
        )
        for c in pairs.against_leader(pool)
    ]
    leader = pool.entrants[0]
    return Table(
        f"{leader.name} against each other method, pair by pair",
        ("method", "pairs", "faster", "slower", "its steps / theirs", "p, sign", "p, Wilcoxon"),
        tuple(rows),
        pairs.meaning(sum(map(len, leader.trials.values()))) if rows else "",
        own=_own(pool),
    )


def levels_table(pool: Pool, searches: Searches) -> Table:
    """Scores and hits at an easier and at a harder target than the trials ran for."""
    title = "At easier and harder targets"
    harder = _harder(pool, searches)
    workloads = [w for w in pool.workloads if w in searches.easier and w in harder]
    if not workloads:
        caption = "Not known: no workload here has the log of a search for its target."
        return Table(title, ("method",), (), caption, own=_own(pool))
    own = {w: pool.rules[w]["target"] for w in workloads}
    levels = [{w: which[w] for w in workloads} for which in (searches.easier, own, harder)]
    settled = searches.settled
    found = [
        (strictness.scores(pool, its, settled), strictness.hits(pool, its, settled))
        for its in levels
    ]
    rows = []
    for entrant in pool.entrants:
        cells = [Cell(entrant.name)]
        for scores, hits in found:
            cells += [Cell(_range(scores[entrant.name], "{:.3f}"))]
            cells += [Cell(f"{_range(hits[entrant.name], '{}')}/{len(workloads)}")]
        rows.append(tuple(cells))
    return Table(
        title,
        ("method", *(text for level in ("easier", "target", "harder") for text in (level, "hits"))),
        tuple(rows),
        "Scores, and workloads whose target the median study reaches. Easier: the metric that the "
        "median configuration of the search reaches. Harder: the best metric of any run of the "
        "search and of any method here. Both are read from the curves of the same trials. A trial "
        "ends at its target, so that at a harder one much is known as a range only. "
        + _lacking(pool, searches.easier),
        own=_own(pool),
    )


def _harder(pool: Pool, searches: Searches) -> dict[str, float]:
    """The best metric of any run of a search and of any trial here, by workload."""
    found = {}
    for workload, searched in searches.harder.items():
        better = max if pool.rules[workload]["higher_is_better"] else min
        trials = [trial for entrant in pool.entrants for trial in entrant.trials[workload]]
        bests = [t["best_validation"] for t in trials if t["best_validation"] is not None]
        found[workload] = better([searched, *bests])
    return found


def _range(numbers: tuple[float, float], form: str) -> str:
    """One number, or two where they differ as they are shown."""
    low, high = (form.format(number) for number in numbers)
    return low if low == high else f"{low} to {high}"


def calibrated_table(pool: Pool, times: StepTimes | None) -> Table:
    """Steps times ms a step: seconds that do not depend on when a trial ran."""
    title = "Calibrated seconds: steps to the target times ms a step"
    standings = {} if times is None else step_times.standings(pool, times)
    entrants = {entrant.name: entrant for entrant in pool.entrants}
    absent = [name for name in entrants if name not in standings]
    remedy = "`python -m eval.calibrate` with --method and --out of this run times them."
    if times is None or not standings:
        return Table(title, ("method",), (), f"No method here was timed: {remedy}", own=_own(pool))
    rows = []
    for name, standing in standings.items():
        cells = [
            _time_cell(entrants[name], standing, workload, f"{time:.1f}")
            for workload, time in standing.times.items()
        ]
        cost = fmean(times.of(pool, entrants[name]).values())
        rows.append((Cell(name), Cell(f"{standing.score:.3f}"), Cell(f"{cost:.1f}"), *cells))
    return Table(
        title,
        ("method", "score", "ms a step", *pool.workloads),
        tuple(rows),
        "Median steps over the studies times the milliseconds of a training step, measured for all "
        f"methods in turn ({times.device}, {times.made_with}); ms a step: the mean over the "
        "workloads. The score is among these rows. "
        + (f"Not timed: {', '.join(absent)}; {remedy} " if absent else "")
        + _legend(rows, pool),
        own=_own(pool),
    )


def seconds_table(pool: Pool) -> Table:
    """Seconds are compared and scored among methods timed on one machine only."""
    entrants = {entrant.name: entrant for entrant in pool.entrants}
    sources = {"this run": pool.seconds(recorded=False), "recorded": pool.seconds(recorded=True)}
    rows = []
    for source, standings in sources.items():
        alone = len(standings) == 1  # nothing to be faster than
        for name, standing in standings.items():
            cells = [
                _time_cell(entrants[name], standing, workload, f"{time:.1f}")
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
        "timed in one run. " + _legend(rows, pool),
        text_columns=2,
        own=_own(pool),
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
        own=_own(pool),
    )


def workloads_table(pool: Pool, searches: Searches) -> Table:
    harder = _harder(pool, searches)
    rows = [
        (
            Cell(workload),
            Cell(rules["metric"]),
            Cell("higher" if rules["higher_is_better"] else "lower"),
            Cell(number(rules["target"], 5)),
            Cell(str(rules["step_hint"])),
            Cell(f"{rules['budget'] * rules['step_hint']:.0f}"),
            *(Cell(number(its.get(workload), 5)) for its in (searches.easier, harder)),
        )
        for workload, rules in pool.rules.items()
    ]
    return Table(
        "Workloads",
        (
            *("workload", "metric", "better", "validation target", "step_hint", "budget, steps"),
            *("easier target", "harder target"),
        ),
        tuple(rows),
        text_columns=3,
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
        own=_own(pool),
    )


def troubles_table(pool: Pool) -> Table:
    """Every trial that did not reach its target, and why."""
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
        own=_own(pool),
    )


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _time_cell(entrant: Entrant, standing: Standing, workload: str, shown: str) -> Cell:
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
    """Its times over the trials that it has."""
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


def _legend(rows: Iterable[tuple[Cell, ...]], pool: Pool) -> str:
    """Explains the marks that occur in the workloads' columns, and no others."""
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
    """(what happened, in which studies): equal reasons together, and all misses."""
    rules, trials = pool.rules[workload], entrant.trials[workload]
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial["outcome"] == "failed":
            found.setdefault(_short(f"failed: {trial['reason']}"), []).append(trial["study"])
    missed = [trial for trial in trials if trial["outcome"] == "miss"]
    if missed:
        # A best value just short of the target must not look like it.
        best = ", ".join(map(_best, missed))
        what = f"missed {rules['metric']} {number(rules['target'], 5)}: best {best}"
        found[what] = [trial["study"] for trial in missed]
    absent = set(range(entrant.num_studies)) - {trial["study"] for trial in trials}
    if absent:
        ranked = entrant not in pool.unranked
        found["not run" + (", counted as a miss" if ranked else "")] = sorted(absent)
    return [(what, ", ".join(map(str, studies))) for what, studies in found.items()]


def _best(missed: Record) -> str:
    """The best metric, and the last one where the best would have been enough."""
    later = f" but {number(missed['final_validation'], 5)} later" if lost_again(missed) else ""
    return number(missed["best_validation"], 5) + later


def _own(pool: Pool) -> frozenset[str]:
    mine = (*pool.run, *(entrant for entrant in pool.unranked if not entrant.recorded))
    return frozenset(entrant.name for entrant in mine)


def _short(text: str, length: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
