"""The pool that is scored: a run and the recorded baselines made under the same rules."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeVar

from .overfitting import remark
from .rules import rules_of
from .scoring import Clock, Record, Standing, median_time, rank, time_to_target

# Trials are comparable if these rules agree. The seed may differ, as it only chooses the sample,
# and so may the budget: methods never see it, so that a trial contains every shorter one.
COMPARABLE = ("step_hint", "target", "metric", "higher_is_better", "data", "code")

AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True)
class Entrant:
    """One method of one source: a row of every table."""

    name: str  # as shown: a run's repeat of a recorded method is `name (yours)`
    method: str
    recorded: bool  # from eval/baselines rather than from this run
    num_studies: int
    trials: Mapping[str, tuple[Record, ...]]  # workload -> trials in order of study

    @property
    def summary(self) -> str:
        """The configuration in one line, as it was when the trials were made."""
        return self.any_trial["rules"]["method"]

    @property
    def any_trial(self) -> Record:
        return next(trial for trials in self.trials.values() for trial in trials)

    @property
    def missing(self) -> int:
        """The number of trials of the plan that have no record."""
        return self.num_studies * len(self.trials) - sum(map(len, self.trials.values()))

    def hits(self, workload: str) -> int:
        return sum(time_to_target(trial, "steps") < inf for trial in self.trials[workload])

    def median_times(self, clock: Clock) -> dict[str, float]:
        return {
            workload: median_time(trials, clock, self.num_studies)
            for workload, trials in self.trials.items()
        }


@dataclass(frozen=True)
class Pool:
    """Entrants scored together, best first, and entrants that ran only a part of the plan."""

    rules: Mapping[str, Mapping[str, Any]]  # by workload, in the tables' order
    entrants: tuple[Entrant, ...]
    steps: Mapping[str, Standing]  # by entrant's name
    notes: tuple[str, ...]  # notes for the reader who compares two rows
    unranked: tuple[Entrant, ...] = ()  # shown in tables, but not scored

    @property
    def workloads(self) -> list[str]:
        return list(self.rules)

    @property
    def budget(self) -> float:
        return next(iter(self.rules.values()))["budget"]

    def most_steps(self, workload: str) -> float:
        """The budget of a workload, in steps."""
        return self.budget * self.rules[workload]["step_hint"]

    @property
    def run(self) -> list[Entrant]:
        return [entrant for entrant in self.entrants if not entrant.recorded]

    def seconds(self, recorded: bool) -> dict[str, Standing]:
        """Standings by seconds among entrants of one source, as machines are not comparable."""
        return rank(
            {e.name: e.median_times("seconds") for e in self.entrants if e.recorded == recorded}
        )

    def scores_by_study(self) -> dict[str, list[float]]:
        """The scores of every entrant on study 0 alone, on study 1 alone, and so on.

        Only studies that all entrants have. Entry k of all lists belongs to the same
        initialisation and data order, so that differences between entrants are paired.
        """
        num_studies = min(entrant.num_studies for entrant in self.entrants)
        pools = [
            rank({e.name: _times_in_study(e, study) for e in self.entrants})
            for study in range(num_studies)
        ]
        return {e.name: [pool[e.name].score for pool in pools] for e in self.entrants}


def assemble(run: Sequence[Record], baselines: Sequence[Record], order: Sequence[str]) -> Pool:
    """One pool of a run (at least one scored trial) and the recorded methods comparable with it.

    A recorded method is included only if it has all workloads of the run, and with the studies
    that the run has. order: the order of the workloads in tables.
    """
    run, notes = _under_one_set_of_rules(run)
    names = {record["workload"] for record in run}
    workloads = sorted(names, key=lambda name: (_position(name, order), name))
    rules = {
        workload: next(rules_of(r) for r in run if r["workload"] == workload)
        for workload in workloads
    }
    mine = _entrants(run, workloads, recorded=False)
    num_studies = max(entrant.num_studies for entrant in mine)
    usable, reasons = _comparable(baselines, rules, num_studies)
    notes += reasons
    theirs = _entrants(usable, workloads, recorded=True)
    taken = {entrant.method for entrant in theirs}
    mine = [replace(e, name=f"{e.name} (yours)") if e.method in taken else e for e in mine]
    everyone = (*mine, *theirs)
    # If no entrant is complete, missing trials count as misses for all.
    ranked = [e for e in everyone if not e.missing] or everyone
    unranked = tuple(e for e in everyone if e not in ranked)
    entrants = {entrant.name: entrant for entrant in ranked}
    steps = rank({name: e.median_times("steps") for name, e in entrants.items()})
    present = sum(name in names for name in order)
    if present < len(order):
        notes.insert(0, f"the scores are over {present} of the {len(order)} workloads only")
    notes += _differences(mine, theirs)
    notes += [_incomplete(e, e in unranked) for e in everyone if e.missing]
    notes += _search_sizes(run, workloads)
    notes += _overfitting(everyone, workloads)
    return Pool(rules, tuple(entrants[name] for name in steps), steps, tuple(notes), unranked)


def scored(records: Iterable[AnyRecord]) -> list[AnyRecord]:
    """The trials that had a target, which those of ablations and searches do not."""
    return [record for record in records if record["rules"]["target"] is not None]


def at_budget(record: Record, budget: float) -> Record:
    """The record that the same trial would have left with a smaller budget.

    Methods never see the budget, so that both trials take the same steps until the shorter one
    ends; only its evaluation after the last step is unknown if the longer one had none there.
    """
    rules, seconds = record["rules"], record["seconds"]
    if budget >= rules["budget"]:
        return record
    steps = max(1, round(budget * rules["step_hint"]))
    cut = {**record, "rules": {**rules, "budget": budget}}
    if record["steps"] <= steps:
        return cut
    curve = [point for point in record["curve"] if point[0] <= steps]
    times = seconds["curve"][: len(curve)]
    values = [value for _, _, value in curve if value is not None]
    cut |= {
        "steps": steps,
        "curve": curve,
        "best_validation": (max if rules["higher_is_better"] else min)(values, default=None),
        "final_validation": curve[-1][2] if curve else None,
        "test": None,  # the longer trial computed it later in the run
        "reason": None,
        "seconds": {
            **seconds,
            "training": seconds["training"] * steps / record["steps"],
            "evaluation": seconds["evaluation"] * len(curve) / max(1, len(record["curve"])),
            "curve": times,
        },
    }
    if record["outcome"] != "hit" or record["steps_to_target"] > steps:
        cut |= {"outcome": "miss", "steps_to_target": None}
        cut["seconds"]["to_target"] = None
    return cut


def _under_one_set_of_rules(run: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The records that agree with the first of their workload, and notes on the others."""
    first: dict[str, Mapping[str, Any]] = {}
    kept, notes = [], []
    budget = run[0]["rules"]["budget"]
    for record in run:
        own = rules_of(record)
        rules = first.setdefault(record["workload"], own)
        now = {"budget": budget, **{name: rules[name] for name in COMPARABLE}}
        odd = [name for name, value in now.items() if own[name] != value]
        if odd:
            notes.append(
                f"{record['method']} on {record['workload']} in study {record['study']} is left "
                f"out: its {odd[0]} is {own[odd[0]]}, that of others {now[odd[0]]}"
            )
        else:
            kept.append(record)
    for name in ("torch", "selftune", "device"):
        counts = Counter(record["versions"].get(name, "unknown") for record in kept)
        if len(counts) > 1:
            several = ", ".join(f"{value} ({n} trials)" for value, n in sorted(counts.items()))
            notes.append(f"this run's trials were not made with one {name}: {several}")
    return kept, notes


def _entrants(records: Iterable[Record], workloads: list[str], recorded: bool) -> list[Entrant]:
    records = list(records)
    num_studies = 1 + max((record["study"] for record in records), default=0)
    entrants = []
    for method in dict.fromkeys(record["method"] for record in records):
        trials = {
            workload: tuple(
                sorted(
                    (r for r in records if (r["method"], r["workload"]) == (method, workload)),
                    key=lambda r: r["study"],
                )
            )
            for workload in workloads
        }
        entrants.append(Entrant(method, method, recorded, num_studies, trials))
    return entrants


def _comparable(
    baselines: Sequence[Record], rules: Mapping[str, Mapping[str, Any]], num_studies: int
) -> tuple[list[Record], list[str]]:
    """The recorded trials that may enter, and a note for each reason why others may not."""
    usable, reasons = [], {}
    budget = next(iter(rules.values()))["budget"]
    short: dict[float, list[str]] = {}
    for method in dict.fromkeys(record["method"] for record in baselines):
        trials = [r for r in baselines if r["method"] == method and r["workload"] in rules]
        absent = sorted(set(rules) - {trial["workload"] for trial in trials})
        different = {
            (trial["workload"], key): (rules_of(trial)[key], rules[trial["workload"]][key])
            for trial in trials
            for key in COMPARABLE
            if rules_of(trial)[key] != rules[trial["workload"]][key]
        }
        if absent:
            reasons.setdefault(f"not recorded on {', '.join(absent)}", []).append(method)
        elif different:
            (workload, key), (theirs, ours) = next(iter(different.items()))
            reason = f"recorded with {key} {theirs} on {workload}, this run has {ours}"
            reasons.setdefault(reason, []).append(method)
        else:
            usable += [at_budget(t, budget) for t in trials if t["study"] < num_studies]
            its = min(trial["rules"]["budget"] for trial in trials)
            if its < budget and any(trial["outcome"] == "miss" for trial in trials):
                short.setdefault(its, []).append(method)
    notes = [f"left out of the pool: {', '.join(who)} ({why})" for why, who in reasons.items()]
    notes += [
        f"{', '.join(who)} had a budget of {its:g} x step_hint when recorded, this run has "
        f"{budget:g}: they might have reached the targets that they missed"
        for its, who in short.items()
    ]
    if not usable:
        notes.append(
            "no recorded baseline is comparable with this run: it is scored only against itself"
        )
    return usable, notes


def _differences(mine: list[Entrant], theirs: list[Entrant]) -> list[str]:
    """Notes on differences between the run and the baselines that still allow a comparison."""
    if not theirs:
        return []
    ours, recorded = _circumstances(mine[0]), _circumstances(theirs[0])
    return [
        f"this run has {name} {ours[name]}, the recorded baselines have {recorded[name]}"
        for name in ours
        if ours[name] != recorded[name]
    ]


def _circumstances(entrant: Entrant) -> dict[str, Any]:
    trial = entrant.any_trial
    versions = {name: trial["versions"][name] for name in ("torch", "selftune", "device")}
    return {"studies": entrant.num_studies, "seed": trial["rules"]["seed"], **versions}


def _times_in_study(entrant: Entrant, study: int) -> dict[str, float]:
    return {
        workload: next((time_to_target(t, "steps") for t in trials if t["study"] == study), inf)
        for workload, trials in entrant.trials.items()
    }


def _position(workload: str, order: Sequence[str]) -> int:
    return order.index(workload) if workload in order else len(order)


def _incomplete(entrant: Entrant, unranked: bool) -> str:
    wanted = entrant.num_studies * len(entrant.trials)
    where = [w for w, trials in entrant.trials.items() if len(trials) < entrant.num_studies]
    consequence = "and is not ranked" if unranked else "counted as misses"
    return (
        f"{entrant.name} lacks {entrant.missing} of {wanted} trials, {consequence} "
        f"(on {', '.join(where)})"
    )


def _search_sizes(run: Sequence[Record], workloads: list[str]) -> list[str]:
    """A note on targets that come from a search of another size than the protocol's."""
    sizes = {r["workload"]: r["target_from"] for r in run if "target_from" in r}
    return [
        f"the target of {workload} comes from a search of {sizes[workload]} only"
        for workload in workloads
        if workload in sizes
    ]


def _overfitting(entrants: Sequence[Entrant], workloads: list[str]) -> list[str]:
    remarks = {w: remark(trial for e in entrants for trial in e.trials[w]) for w in workloads}
    return [f"on {workload} {text}" for workload, text in remarks.items() if text]
