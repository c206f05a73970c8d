"""Sentences about the results of a pool: rank, score, and how certain they are."""

from math import isclose

from ..pool import Entrant, Pool

# budget -> the AlgoPerf version whose self-tuning ruleset has it, and its number of studies
ALGOPERF = {3.0: ("v0.5", 5), 1.5: ("v0.6", 3)}

POCKET_SCALE = (
    "Pocket scale can tell whether one configuration trains models of several kinds, where it "
    "fails outright, and large differences in the number of steps it takes. It cannot tell the "
    "order of close methods on the full benchmark: models and data are far smaller, a run has "
    "thousands of steps and not a hundred thousand, the targets come from a search of NAdamW with "
    "a cosine schedule, which favours similar methods, and all steps count the same, whatever "
    "their time and memory."
)


def rules(pool: Pool) -> str:
    """The rules of the score in one line, which accompanies every table."""
    num_studies = max(entrant.num_studies for entrant in (*pool.entrants, *pool.unranked))
    version, its_studies = ALGOPERF.get(pool.budget, ("", 0))
    budget = f"budget {pool.budget:g} x step_hint"
    budget += f" (AlgoPerf {version}'s)" if version else " (no AlgoPerf version's)"
    studies = f"median of {num_studies} studies" if num_studies > 1 else "1 study"
    studies += f" ({version} has {its_studies})" if version and its_studies != num_studies else ""
    return (
        f"{budget}, {studies}, targets on the validation split, slower than 4 x the best is a "
        "miss, time counted in optimizer steps"
    )


def standings(pool: Pool) -> list[str]:
    """A sentence about the rank of each method of this run."""
    return [standing(pool, entrant) for entrant in pool.run]


def standing(pool: Pool, entrant: Entrant) -> str:
    """A sentence: rank, score, distance to the neighbours, and whether the studies agree."""
    scores = {name: s.score for name, s in pool.steps.items()}
    mine, hits = scores[entrant.name], pool.steps[entrant.name].hits
    reached = f"{hits} of {len(pool.workloads)} target{'s' if len(pool.workloads) > 1 else ''}"
    if max(scores.values()) == 0:
        return (
            f"{entrant.name} scores 0.000: no method in its pool of {len(scores)} reaches a target."
        )
    if len(scores) == 1:
        return (
            f"{entrant.name} is alone in its pool: its score of {mine:.3f} says only "
            f"that it reaches {reached}."
        )
    others = {name: score for name, score in scores.items() if name != entrant.name}
    better = [name for name, score in others.items() if score > mine and not isclose(score, mine)]
    equal = [name for name, score in others.items() if isclose(score, mine)]
    worse = [name for name in others if name not in better + equal]
    place = f"{'shares' if equal else 'is'} {_ordinal(len(better) + 1)} of {len(scores)}"
    place += f" with {' and '.join(_said(pool, name) for name in equal)}" if equal else ""
    gaps = [f"{scores[better[-1]] - mine:.3f} behind {_said(pool, better[-1])}"] if better else []
    gaps += [f"{mine - scores[worse[0]]:.3f} ahead of {_said(pool, worse[0])}"] if worse else []
    details = ", ".join([f"a score of {mine:.3f}", *gaps])
    return f"{entrant.name} {place}, with {details}; it reaches {reached}." + _doubt(
        pool, entrant.name, better + worse
    )


def _doubt(pool: Pool, name: str, others: list[str]) -> str:
    """A sentence on whether the studies, each scored alone, agree on its order among the others."""
    by_study = pool.scores_by_study()
    if len(by_study[name]) < 2:
        return " One study shows no spread: do not rely on small differences." if others else ""
    unsettled = []
    for other in others:
        gaps = [mine - its for mine, its in zip(by_study[name], by_study[other], strict=True)]
        ahead = pool.steps[name].score > pool.steps[other].score
        if min(gaps) <= 0 if ahead else max(gaps) >= 0:
            unsettled.append(f"{_said(pool, other)} ({min(gaps):+.3f} to {max(gaps):+.3f})")
    if not unsettled:
        return " Every single study has the same methods ahead of it and behind." if others else ""
    return f" Single studies disagree on the order against {' and '.join(unsettled)}."


def _said(pool: Pool, name: str) -> str:
    """`name`, distinguished from this run's method of the same name, if there is one."""
    return f"the recorded {name}" if f"{name} (yours)" in pool.steps else name


def _ordinal(number: int) -> str:
    teen = 10 < number % 100 < 14
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
