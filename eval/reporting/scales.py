"""Tables of further measures: oracle ratio, pairs, other targets, calibrated seconds."""

from math import isfinite
from statistics import fmean
from typing import Protocol

from .. import oracle, pairs, step_times, strictness
from ..intervals import oracle_intervals
from ..oracle import Oracle
from ..pool import Pool
from ..step_times import StepTimes
from ..strictness import Settled, Targets
from .tables import Cell, Table, legend, number, own, time_cell


class Searches(Protocol):
    """The other results of the searches for targets: see `targets.besides.Besides`."""

    @property
    def steps(self) -> Oracle: ...
    @property
    def easier(self) -> Targets: ...
    @property
    def harder(self) -> Targets: ...
    @property
    def settled(self) -> Settled: ...


def oracle_table(pool: Pool, searched: Oracle, by_workload: bool = True) -> Table:
    """The oracle ratios, best first. by_workload: whether to show the ratio on each workload."""
    title = "Oracle ratio: steps over those of the best known"
    if not searched:
        caption = "Not known: no workload here has the log of a search for its target."
        return Table(title, ("method",), (), caption, own=own(pool))
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
        "To search: steps to the target divided by those of the best configuration in the search "
        "that set the target, as a geometric mean over the workloads; a miss counts with the whole "
        "budget. 1.30 means 30 % more steps than NAdamW tuned for each workload separately; other "
        "methods in the pool do not change it. "
        + ("To recorded: divided by the fastest recorded method's steps. " if recorded else "")
        + (">: a miss. " if any(">" in cell.text for row in rows for cell in row) else "")
        + _lacking(pool, searched),
        own=own(pool),
    )


def _lacking(pool: Pool, searched: Oracle) -> str:
    number = len(pool.workloads) - len(searched)
    what = f"{number} of the {len(pool.workloads)} workloads" if number > 1 else "one workload"
    return f"Without {what}, for which there is no search of this version." if number else ""


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
        own=own(pool),
    )


def levels_table(pool: Pool, searches: Searches) -> Table:
    """Scores and hits at targets that are easier and harder than those of the trials."""
    title = "At easier and harder targets"
    harder = _harder(pool, searches)
    workloads = [w for w in pool.workloads if w in searches.easier and w in harder]
    if not workloads:
        caption = "Not known: no workload here has the log of a search for its target."
        return Table(title, ("method",), (), caption, own=own(pool))
    theirs = {w: pool.rules[w]["target"] for w in workloads}
    levels = [{w: which[w] for w in workloads} for which in (searches.easier, theirs, harder)]
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
        "search and of any method here. Both are computed from the curves of the same trials. A "
        "trial ends at its target, so that many results at a harder one are known only as ranges. "
        + _lacking(pool, searches.easier),
        own=own(pool),
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
    """One number, or two if they differ after rounding."""
    low, high = (form.format(number) for number in numbers)
    return low if low == high else f"{low} to {high}"


def calibrated_table(pool: Pool, times: StepTimes | None) -> Table:
    """Seconds that do not depend on when a trial ran: steps times milliseconds per step."""
    title = "Calibrated seconds: steps to the target times ms a step"
    standings = {} if times is None else step_times.standings(pool, times)
    entrants = {entrant.name: entrant for entrant in pool.entrants}
    absent = [name for name in entrants if name not in standings]
    remedy = "`python -m eval.calibrate` with --method and --out of this run times them."
    if times is None or not standings:
        return Table(title, ("method",), (), f"No method here was timed: {remedy}", own=own(pool))
    rows = []
    for name, standing in standings.items():
        cells = [
            time_cell(entrants[name], standing, workload, f"{time:.1f}")
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
        + legend(rows, pool),
        own=own(pool),
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
