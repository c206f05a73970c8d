"""Scores at easier and harder targets, from the curves in the records.

The curve of a trial tells exactly when it reached an easier target. A trial stops when it reaches
its own target, so that it would have reached a harder one at an unknown later time or never: these
times, and the scores computed from them, are ranges.
"""

from collections.abc import Mapping
from math import inf
from statistics import median

from .pool import Pool
from .scoring import Record, rank

STEP = 0.005  # between two points of a curve
FURTHEST = 0.03  # relative change of the target at the ends of a curve

Range = tuple[float, float]
Targets = Mapping[str, float]  # by workload
Settled = Mapping[str, int]  # by workload, the step until which it must hold its target; else 0


def first_reached(record: Record, target: float, settled: int = 0) -> float:
    """The step at which a record's curve first reached a target, infinite if it never did.

    settled: for a workload that must hold its target, the step until which no later evaluation
    may be worse than the target.
    """
    higher = record["rules"]["higher_is_better"]
    start = None
    for step, _, value in record["curve"]:
        if value is None or (value < target if higher else value > target):
            start = None
            continue
        start = step if start is None else start
        if step >= settled:
            break
    return inf if start is None else float(max(1, start))  # a file may say 0


def steps_to(record: Record, target: float, settled: int = 0) -> Range:
    """(earliest, latest) step at which the trial would have reached a target."""
    reached = first_reached(record, target, settled)
    if reached < inf or record["outcome"] != "hit":
        return reached, reached
    rules, curve = record["rules"], record["curve"]
    # The first evaluation takes place one period after the start.
    following = curve[-1][0] + curve[0][0] if curve else record["steps_to_target"] + 1
    return (following if following <= rules["budget"] * rules["step_hint"] else inf), inf


def moved(pool: Pool, strictness: float) -> dict[str, float]:
    """The pool's targets made harder by a fraction of themselves; easier if it is negative."""
    return {
        workload: rules["target"]
        + (1 if rules["higher_is_better"] else -1) * strictness * abs(rules["target"])
        for workload, rules in pool.rules.items()
    }


def scores(pool: Pool, targets: Targets, settled: Settled | None = None) -> dict[str, Range]:
    """(lowest, highest) score of every entrant, over the workloads that have a target here.

    The highest score combines its own earliest times with the others' latest ones, the lowest its
    own latest with the others' earliest ones.
    """
    times = _times(pool, targets, settled or {})
    least, most = ({name: its[end] for name, its in times.items()} for end in (0, 1))
    return {
        name: (
            rank({**least, name: most[name]})[name].score,
            rank({**most, name: least[name]})[name].score,
        )
        for name in times
    }


def hits(pool: Pool, targets: Targets, settled: Settled | None = None) -> dict[str, tuple]:
    """(fewest, most) workloads whose target every entrant's median study reaches."""
    return {
        name: tuple(sum(time < inf for time in its[end].values()) for end in (1, 0))
        for name, its in _times(pool, targets, settled or {}).items()
    }


def curve(pool: Pool, settled: Settled | None = None) -> list[tuple[float, dict[str, Range]]]:
    """(strictness, scores) from the easiest targets to the hardest."""
    number = round(FURTHEST / STEP)
    levels = [STEP * step for step in range(-number, number + 1)]
    return [(level, scores(pool, moved(pool, level), settled)) for level in levels]


def _times(
    pool: Pool, targets: Targets, settled: Settled
) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
    """By entrant, its earliest and its latest median steps by workload."""
    found = {}
    for entrant in pool.entrants:
        ends: tuple[dict[str, float], dict[str, float]] = {}, {}
        for workload, target in targets.items():
            trials = entrant.trials[workload]
            ranges = [steps_to(trial, target, settled.get(workload, 0)) for trial in trials]
            ranges += [(inf, inf)] * (entrant.num_studies - len(trials))
            for end, times in zip(ends, zip(*ranges, strict=True), strict=True):
                end[workload] = median(times)
        found[entrant.name] = ends
    return found
