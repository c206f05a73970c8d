"""Tables of a contest on the official workloads, and of projected costs."""

from collections.abc import Sequence
from math import isfinite
from statistics import median

from ..pool import Entrant
from ..reporting.tables import Cell, Table
from ..scoring import CUTOFF, Clock, Standing
from .contest import RELAXATIONS, Contest
from .projection import Projection
from .scores import median_time, official_score


def leaderboard(contest: Contest) -> Table:
    """The leaderboard: the official score and further measures."""
    plain = contest.standings("seconds", held_out=False)
    published = contest.field.scores if contest.field else {}
    spread = len(next(iter(contest.scores_by_study.values()))) > 1
    rows = []
    for entrant in contest.entrants:
        name, by_study = entrant.name, contest.scores_by_study[entrant.name]
        seconds = contest.seconds[name]
        row = [name, f"{official_score(seconds):.4f}"]
        row += [f"{published[name]:.4f}" if name in published else "-"] if published else []
        row += [f"{seconds.score:.4f}"]
        row += [f"{official_score(plain[name]):.4f}"] if contest.held_out else []
        row += [f"{official_score(contest.steps[name]):.4f}"]
        row += [f"{min(by_study):.2f}-{max(by_study):.2f}"] if spread else []
        row += [f"{_credited(seconds)}/{len(contest.workloads)}"]
        rows.append(tuple(map(Cell, row)))
    columns = ["submission", "score", *(["published"] if published else []), "exact"]
    columns += ["no held-out"] if contest.held_out else []
    columns += ["by steps", *(["by study"] if spread else []), "hits"]
    caption = "Score: by seconds, as the official code evaluates it. Exact: its integral. "
    caption += "No held-out: as if there were none. " if contest.held_out else ""
    caption += "By steps: with steps for seconds. "
    caption += "By study: lowest and highest score of single studies. " if spread else ""
    caption += "Hits: workloads that count, within 4 x the best."
    title = contest.field.title if contest.field else f"Scores by the rules of {contest.rules.name}"
    return Table(title, tuple(columns), tuple(rows), caption, own=_own(contest))


def times(contest: Contest, clock: Clock) -> Table:
    """Median seconds or steps to target, held-out workloads last."""
    standings = contest.standings(clock)
    columns = (*contest.workloads, *contest.held_out)
    best = {w: min(_median(entrant, w, clock) for entrant in contest.entrants) for w in columns}
    rows = [
        (
            Cell(entrant.name),
            *(_time_cell(entrant, w, clock, standings[entrant.name], best[w]) for w in columns),
        )
        for entrant in contest.entrants
    ]
    unit = "Seconds" if clock == "seconds" else "Steps"
    return Table(
        f"{unit} to the target",
        ("submission", *contest.workloads, *(f"held-out {w}" for w in contest.held_out)),
        tuple(rows),
        "Median over the studies. 4/5: reached in 4 of 5. In brackets: no credit, being slower "
        "than 4 x the best or without the held-out workload. miss: most studies never reached it.",
        own=_own(contest),
    )


def sweep(contest: Contest) -> Table:
    """Scores with all targets relaxed by the same fraction, which show how robust a lead is."""
    scores = [
        {n: official_score(s) for n, s in contest.standings("seconds", relaxation).items()}
        for relaxation in RELAXATIONS
    ]
    rows = [
        (
            Cell(entrant.name),
            *(
                Cell(
                    f"{row[entrant.name]:.3f} ({_place(row, entrant.name)})",
                    best=_place(row, entrant.name) == 1,
                )
                for row in scores
            ),
        )
        for entrant in contest.entrants
    ]
    return Table(
        "Scores when every target is relaxed",
        ("submission", *(f"{relaxation:.0%}" for relaxation in RELAXATIONS)),
        tuple(rows),
        "By seconds, with the place in brackets. A target to be exceeded is multiplied by "
        "1 - 0.01, ..., one to stay below by 1 + 0.01, ..., held-out workloads alike.",
        own=_own(contest),
    )


def spread(contest: Contest) -> Table:
    """Each entrant's slowest study divided by its fastest, if all of them reach the target."""
    rows, ratios = [], []
    for entrant in contest.entrants:
        cells = []
        for workload in contest.workloads:
            trials = entrant.trials[workload]
            hits = [t["seconds"]["to_target"] for t in trials if t["outcome"] == "hit"]
            whole = len(hits) == len(trials) > 1
            ratios += [max(hits) / min(hits)] if whole else []
            cells.append(Cell(f"{ratios[-1]:.2f}" if whole else "-"))
        rows.append((Cell(entrant.name), *cells))
    found = f" In the median {median(ratios):.2f}." if ratios else ""
    return Table(
        "Spread over seeds: seconds of the slowest study over those of the fastest",
        ("submission", *contest.workloads),
        tuple(rows),
        f"Only where all studies reach the target.{found}",
        own=_own(contest),
    )


def failures(contest: Contest, recorded: bool) -> Table:
    """The failures of entrants, and their distances from the target."""
    rows = [
        (Cell(entrant.name), Cell(workload), Cell(what), Cell(studies))
        for entrant in contest.entrants
        if recorded or not entrant.recorded
        for workload in (*contest.workloads, *contest.held_out)
        for what, studies in _failures(contest, entrant, workload)
    ]
    return Table(
        "Where submissions fail",
        ("submission", "workload", "what happened", "studies"),
        tuple(rows),
        "" if rows else "Nowhere.",
        text_columns=4,
        own=_own(contest),
    )


def projected(projections: Sequence[Projection], studies: int, price: float | None = None) -> Table:
    """The projected costs of a full run. price: of an hour of the whole machine."""
    rows = [
        (
            Cell(p.workload),
            Cell(f"{p.step_seconds * p.overhead:.3f}"),
            Cell(f"{p.horizons:.2f}"),
            *_hours(p.hinted_hours, p.hinted_hours * p.evaluation_share),
            *_hours(p.most_hours, p.most_hours * p.evaluation_share),
        )
        for p in projections
    ]
    hinted = sum(p.hinted_hours * (1 + p.evaluation_share) for p in projections) * studies
    most = sum(p.most_hours * (1 + p.evaluation_share) for p in projections) * studies
    total = f"{studies} {'studies' if studies > 1 else 'study'}: {hinted:.0f} hours of the machine "
    total += f"if every run takes one horizon, {most:.0f} if none reaches its target"
    if price is not None:
        total += f"; at {price:g} an hour {hinted * price:,.0f} and {most * price:,.0f}"
    factor = projections[0].overhead
    overhead = f", times an overhead of {factor:.3f} measured on small models, elsewhere"
    slowed = "" if factor == 1 else overhead
    return Table(
        "A projection, not a measurement",
        (
            *("workload", "s/step", "horizons in budget"),
            *("hours for 1", "+ evaluation", "hours at most", "+ evaluation"),
        ),
        tuple(rows),
        f"{total}. A horizon is step_hint steps. Step times are the published NAdamW baseline's"
        f"{slowed}. When a run reaches its target is not known in advance.",
    )


def _failures(contest: Contest, entrant: Entrant, workload: str) -> list[tuple[str, str]]:
    trials = entrant.trials[workload]
    found: dict[str, list[int]] = {}
    if not trials:
        return [("no evaluation in any study", "all")]
    for trial in trials:
        if trial["outcome"] == "failed":
            found.setdefault(f"failed: {trial['reason']}", []).append(trial["study"])
    missed = [trial for trial in trials if trial["outcome"] == "miss"]
    if missed:
        rules = trials[0]["rules"]
        best = [t["best_validation"] for t in missed if t["best_validation"] is not None]
        what = f"missed {rules['metric']} {rules['target']:.5g}: best "
        what += ", ".join(f"{value:.5g}" for value in best)
        found[what] = [trial["study"] for trial in missed]
    ratio = contest.seconds[entrant.name].ratios.get(workload)
    time = _median(entrant, workload, "seconds")
    if ratio is not None and isfinite(time) and not isfinite(ratio):
        found["reached, without credit: see the table of seconds"] = [t["study"] for t in trials]
    return [(what, ", ".join(map(str, studies))) for what, studies in found.items()]


def _time_cell(
    entrant: Entrant, workload: str, clock: Clock, standing: Standing, best: float
) -> Cell:
    trials = entrant.trials[workload]
    value = _median(entrant, workload, clock)
    if not isfinite(value):
        failed = bool(trials) and all(t["outcome"] == "failed" for t in trials)
        return Cell("none" if not trials else "failed" if failed else "miss")
    scored = workload in standing.ratios
    credited = isfinite(standing.ratios[workload]) if scored else value <= CUTOFF * best
    text = f"{value:.0f}" if credited else f"({value:.0f})"
    hits = sum(t["outcome"] == "hit" for t in trials)
    text += f" {hits}/{len(trials)}" if hits < len(trials) else ""
    return Cell(text, standing.credits[workload] if scored else None, best=value == best)


def _median(entrant: Entrant, workload: str, clock: Clock) -> float:
    return median_time(entrant.trials[workload], clock)


def _credited(standing: Standing) -> int:
    return sum(isfinite(ratio) for ratio in standing.ratios.values())


def _place(scores: dict[str, float], name: str) -> int:
    return 1 + sum(score > scores[name] for score in scores.values())


def _own(contest: Contest) -> frozenset[str]:
    return frozenset(entrant.name for entrant in contest.run)


def _hours(*values: float) -> tuple[Cell, ...]:
    return tuple(Cell(f"{value:.1f}") for value in values)
