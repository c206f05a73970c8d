"""Contests on the official workloads: a run among the submissions of a published field."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isfinite
from typing import Any

from ..pool import Entrant
from ..results import Record
from ..scoring import Clock, Standing
from . import published
from .benchmark import OfficialWorkload, Rules, Ruleset
from .published import Field
from .scores import median_time, official_score, standings, time

RELAXATIONS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05)
OVERSHOOT = 1.01  # of the budget: v0.5 evaluates once more when it is used up
WHOLE = 0.99  # of the budget: the runner stops before a step that would exceed it
STEP_LIMIT = 3.0  # step_hints, the limit of v0.5's own runs
MOST_NAMED = 20


@dataclass(frozen=True)
class Contest:
    """Entrants scored together, by seconds and best first."""

    rules: Rules
    field: Field | None
    workloads: tuple[str, ...]  # scored, in the order of tables
    held_out: Mapping[str, str]  # those that count -> the workload each varies
    entrants: tuple[Entrant, ...]
    notes: tuple[str, ...]  # restrictions of the scores, for readers

    def standings(
        self, clock: Clock, relaxation: float = 0.0, held_out: bool = True
    ) -> dict[str, Standing]:
        """The standings of all entrants, best first, with targets relaxed by a fraction."""
        times = {
            entrant.name: {
                workload: median_time(trials, clock, relaxation)
                for workload, trials in entrant.trials.items()
            }
            for entrant in self.entrants
        }
        return standings(times, self.workloads, self.held_out if held_out else {})

    @cached_property
    def seconds(self) -> dict[str, Standing]:
        return self.standings("seconds")

    @cached_property
    def steps(self) -> dict[str, Standing]:
        return self.standings("steps")

    @cached_property
    def scores_by_study(self) -> dict[str, list[float]]:
        """The official scores of all entrants on study 0 alone, on study 1 alone, and so on.

        Only studies that all entrants have.
        """
        num_studies = min(entrant.num_studies for entrant in self.entrants)
        pools = []
        for study in range(num_studies):
            times = {
                entrant.name: {
                    workload: min(
                        [time(t, "seconds") for t in trials if t["study"] == study] or [inf]
                    )
                    for workload, trials in entrant.trials.items()
                }
                for entrant in self.entrants
            }
            pools.append(standings(times, self.workloads, self.held_out))
        return {
            entrant.name: [official_score(pool[entrant.name]) for pool in pools]
            for entrant in self.entrants
        }

    @property
    def run(self) -> list[Entrant]:
        return [entrant for entrant in self.entrants if not entrant.recorded]

    @property
    def can_relax(self) -> bool:
        """Whether times to relaxed targets are known of all entrants."""
        return self.field is None or self.field.has_curves

    def workload(self, name: str) -> Mapping[str, Any]:
        """The rules of a workload: target, step_hint, seconds_hint."""
        return next(e.trials[name][0]["rules"] for e in self.entrants if e.trials.get(name))


def assemble(run: Sequence[Record], field: Field | None, rules: Rules) -> Contest:
    """One contest of a run and the field; either may be missing, not both.

    Raises ValueError if the run has a workload that the field was not run on.
    """
    known = rules.all_workloads
    theirs = published.records(field) if field else []
    strange = sorted({r["workload"] for r in run} - set(known)) if field else []
    if field and strange:
        raise ValueError(
            f"{', '.join(strange)} is not a workload of {field.name}; score it with --against none"
        )
    names = {r["workload"] for r in (run or theirs)}
    order = [*known, *sorted(names - set(known))]
    workloads = tuple(w for w in order if w in names and w not in rules.held_out)
    mine = _entrants(run, recorded=False)
    held_out = {
        name: workload.base
        for name, workload in rules.held_out.items()
        if workload.base in workloads and all(e.trials.get(name) for e in mine)
    }
    others = _entrants(theirs, recorded=True)
    taken = {entrant.name for entrant in others}
    mine = [replace(e, name=f"{e.name} (yours)") if e.name in taken else e for e in mine]
    columns = (*workloads, *held_out)
    entrants = tuple(
        replace(e, trials={w: e.trials.get(w, ()) for w in columns}) for e in (*mine, *others)
    )
    contest = Contest(rules, field, workloads, held_out, entrants, ())
    ranked = {e.name: e for e in entrants}
    return replace(
        contest,
        entrants=tuple(ranked[name] for name in contest.seconds),
        notes=tuple(_notes(contest, run)) if run else (),
    )


def _entrants(records: Iterable[Record], recorded: bool) -> list[Entrant]:
    by_method: dict[str, list[Record]] = {}
    for record in records:
        by_method.setdefault(record["method"], []).append(record)
    entrants = []
    for method, its in by_method.items():
        trials: dict[str, list[Record]] = {}
        for record in sorted(its, key=lambda r: r["study"]):
            trials.setdefault(record["workload"], []).append(record)
        num_studies = 1 + max(record["study"] for record in its)
        frozen = {workload: tuple(rows) for workload, rows in trials.items()}
        entrants.append(Entrant(method, method, recorded, num_studies, frozen))
    return entrants


def _notes(contest: Contest, run: Sequence[Record]) -> list[str]:
    """Reasons why the run's score is not, or not quite, an AlgoPerf score."""
    rules, notes = contest.rules, []
    absent = [w for w in rules.workloads if w not in contest.workloads]
    if absent:
        notes.append(
            f"the scores are over {len(contest.workloads)} of {len(rules.workloads)} workloads "
            f"only, without {', '.join(absent)}"
        )
    uncounted = [w for w in rules.held_out if w not in contest.held_out]
    if uncounted:
        notes.append(
            f"held-out workloads that the run lacks do not affect any score here: "
            f"{', '.join(uncounted)}"
        )
    for entrant in contest.run:
        wanted = max(rules.studies, entrant.num_studies)
        lacking = {w: wanted - len(trials) for w, trials in entrant.trials.items()}
        if any(lacking.values()):
            where = ", ".join(f"{w} ({n})" for w, n in lacking.items() if n)
            notes.append(
                f"{entrant.name} lacks some of the {wanted} studies that the rules require: "
                f"{where}; "
                "the median is over those that exist, as in the official code"
            )
    devices = sorted({r["versions"]["device"] for r in run})
    if not all(_is_official(device, rules) for device in devices):
        notes.append(
            f"seconds are from {', '.join(devices)}, the field's from {rules.hardware}: only "
            "steps can be compared"
        )
    notes += _odd_targets(run, rules.all_workloads)
    notes += _other_rules(run, contest)
    late = [
        f"{r['method']} on {r['workload']} in study {r['study']}"
        for r in run
        if _is_late(r, contest)
    ]
    if late:
        notes.append(f"reached after the budget of {rules.name}: {', '.join(late)}")
    return notes + _unfinished(run, contest)


def _odd_targets(
    run: Iterable[Mapping[str, Any]], known: Mapping[str, OfficialWorkload]
) -> list[str]:
    odd = {
        (r["workload"], r["rules"]["target"])
        for r in run
        if r["workload"] in known and r["rules"]["target"] != known[r["workload"]].target
    }
    return [
        f"{workload} ran with the target {target:g}, the field with {known[workload].target:g}"
        for workload, target in sorted(odd)
    ]


def _ruleset(contest: Contest) -> Ruleset:
    return contest.field.ruleset if contest.field else "self-tuning"


def _other_rules(run: Iterable[Record], contest: Contest) -> list[str]:
    """A field of another ruleset, and trials made under another budget."""
    notes = []
    if _ruleset(contest) != "self-tuning":
        notes.append(
            f"the field competed in the {_ruleset(contest)} ruleset, in which a method's "
            "hyperparameters are searched for on each workload and budgets are smaller"
        )
    odd = sorted(
        {(r["workload"], r["rules"]["budget"]) for r in run if _has_other_budget(r, contest)}
    )
    if odd:
        which = ", ".join(f"{workload} with {budget:g}" for workload, budget in odd)
        notes.append(f"not run under the budget of {contest.rules.name}: {which}")
    return notes


def _has_other_budget(record: Mapping[str, Any], contest: Contest) -> bool:
    """Whether the trial was stopped earlier or later than the rules say."""
    budget = contest.rules.budget if _ruleset(contest) == "self-tuning" else 1.0
    steps = record["rules"].get("step_budget")
    return record["rules"]["budget"] != budget or (steps is not None and steps < budget)


def _is_late(record: Mapping[str, Any], contest: Contest) -> bool:
    """Whether it reached its target after its budget, which the official code does not check."""
    rules, seconds = contest.rules, time(record, "seconds")
    if record["workload"] not in rules.all_workloads or not isfinite(seconds):
        return False
    return seconds > OVERSHOOT * rules.seconds(record["workload"], _ruleset(contest))


def _share(record: Mapping[str, Any], contest: Contest) -> float:
    """The fraction of its budget in seconds that a run has used."""
    budget = contest.rules.seconds(record["workload"], _ruleset(contest))
    return record["seconds"]["training"] / budget


def _is_unfinished(record: Mapping[str, Any], contest: Contest) -> bool:
    """Whether it ended before its budget without having reached the target.

    A limit of steps is no such end: v0.5's own runs had one of 3 x step_hint besides the seconds.
    """
    if record["outcome"] == "hit" or record["workload"] not in contest.rules.all_workloads:
        return False
    workload = contest.rules.all_workloads[record["workload"]]
    all_steps = record["steps"] >= STEP_LIMIT * workload.step_hint
    return _share(record, contest) < WHOLE and not all_steps


def _unfinished(run: Iterable[Record], contest: Contest) -> list[str]:
    """A note on runs that neither reached the target nor used their budget."""
    far = [
        f"{r['method']} on {r['workload']} in study {r['study']} (step {r['steps']}, "
        f"{_share(r, contest):.0%} of the budget)"
        for r in run
        if _is_unfinished(r, contest)
    ]
    if not far:
        return []
    more = f" and {len(far) - MOST_NAMED} more" if len(far) > MOST_NAMED else ""
    return [f"unfinished, counted as misses: {', '.join(far[:MOST_NAMED])}{more}"]


def _is_official(device: str, rules: Rules) -> bool:
    return device == rules.hardware or (
        device.startswith(f"{rules.gpus}x ") and rules.gpu in device
    )


def is_official(contest: Contest, entrant: Entrant) -> bool:
    """Whether an entrant's score may be called an AlgoPerf score.

    It may not if a target was reached after the budget, if targets or rules differ, or while runs
    are unfinished.
    """
    rules = contest.rules
    wanted = set(rules.all_workloads)
    trials = [trial for rows in entrant.trials.values() for trial in rows]
    return (
        wanted == {*contest.workloads, *contest.held_out}
        and _ruleset(contest) == "self-tuning"
        and not any(
            _is_late(trial, contest)
            or _is_unfinished(trial, contest)
            or _has_other_budget(trial, contest)
            for trial in trials
        )
        and not _odd_targets(trials, rules.all_workloads)
        and all(len(rows) == rules.studies for rows in entrant.trials.values())
        and all(_is_official(trial["versions"]["device"], rules) for trial in trials)
    )
