"""ablate: every schedule and average on the same seeds, compared with the first."""

from __future__ import annotations

import math
import operator
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selftune.ablation.file import AblationFile, Outcome
from selftune.ablation.run import NONE, Run
from selftune.ablation.table import Ablation
from selftune.averaging import Profile
from selftune.refinement.refine import refine
from selftune.schedules.bound import transfer_lr
from selftune.schedules.schedule import Schedule

REFINED = "refined"
Train = Callable[[Run], float | Mapping[str, float]]


def ablate(
    train: Train,
    schedules: Mapping[str, Schedule],
    averages: Mapping[str, Profile] | None = None,
    *,
    seeds: int | Iterable[int] = 3,
    refine_from: str | None = None,
    tuned_with: str | None = None,
    higher_is_better: bool = False,
    out: str | Path | None = None,
) -> Ablation:
    """Train with every schedule and seed, evaluate every average, and compare seed by seed.

        ablate(train, {"linear": linear(T), "wsd": wsd(T)}, {"ema": EMA()}, out="runs/ablation")

    train: is called with a `Run`, trains with its schedule and seed, and returns
        `run.judge(evaluate)`.
    schedules: by name; the first one is the baseline of the comparison.
    averages: profiles by name. All averages of a schedule and seed are taken in one run.
    seeds: their number, or the seeds themselves.
    refine_from: the name of a schedule whose runs record gradient norms. The schedule "refined" is
        computed from them, for each seed from its own run, with a warm-up of the same length; its
        metrics are nan if that run diverged.
    tuned_with: the name of the schedule that the learning rate was tuned with; the other schedules
        get theirs by `transfer_lr`. With None, all have the same peak.
    out: a folder for outcomes, norms, table and picture. The same call resumes where an earlier one
        was interrupted; a call with more schedules, seeds or `refine_from` runs what is missing.
    Prints its progress to stderr. Raises ValueError if a run did not follow its schedule from the
    first step to the last, unless it diverged, and if `train` never reads `run.seed` though there
    are several seeds.
    """
    chosen = _seeds(seeds)
    plan = _Plan(schedules, averages or {}, refine_from, tuned_with, len(chosen) > 1)
    folder = None if out is None else Path(out).absolute()  # `train` may change its folder
    with AblationFile(folder, plan.definition) as file:
        keys = [(name, seed) for seed in chosen for name in plan.names]
        left = [(name, seed) for name, seed in keys if plan.is_left(name, seed, file)]
        progress = _Progress(len(keys), len(left))
        for name, seed in left:
            outcome = plan.outcome(train, name, seed, file)
            file.append(outcome)
            progress.say(outcome)
        table = Ablation.of(
            [file.outcomes[key] for key in keys],
            {name: plan.steps(name) for name in plan.names},
            {REFINED: plan.steps(refine_from)} if refine_from else {},
            higher_is_better,
        )
        if file.folder is not None:
            table.save(file.folder)
    return table


def _seeds(seeds: int | Iterable[int]) -> list[int]:
    try:  # JSON takes Python's own integers only
        each = seeds if isinstance(seeds, Iterable) else range(seeds)
        chosen = [operator.index(seed) for seed in each]
    except TypeError:
        raise ValueError(f"seeds must be whole numbers, or how many, got {seeds!r}") from None
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"seeds must be at least one, and all different, got {seeds}")
    return chosen


@dataclass(frozen=True)
class _Plan:
    """The arguments of `ablate`, and how to make each run. Raises ValueError for invalid ones."""

    schedules: Mapping[str, Schedule]
    averages: Mapping[str, Profile]
    refine_from: str | None
    tuned_with: str | None
    several_seeds: bool
    _definitions: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        for what, given in (("schedules", self.schedules), ("averages", self.averages)):
            if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"{what} are given by name, as {{'a': ...}}; got {given!r}")
        if not self.schedules:
            raise ValueError("an ablation needs at least one schedule, got none")
        for name, schedule in self.schedules.items():
            if schedule.total_steps is None:
                raise ValueError(f"schedule {name!r} has no end: call resample(total_steps)")
        for argument in ("refine_from", "tuned_with"):
            name = getattr(self, argument)
            if name is not None and name not in self.schedules:
                raise ValueError(
                    f"{argument} is one of the schedules {', '.join(self.schedules)}, got {name!r}"
                )
        if self.refine_from and REFINED in self.schedules:
            raise ValueError(f"{REFINED!r} is the name of the refined schedule; rename yours")
        if NONE in self.averages:
            raise ValueError(f"{NONE!r} is the name of the last weights; rename that average")
        averages = {name: profile.describe() for name, profile in self.averages.items()}
        own = {name: self._at_its_peak(s).to_dict() for name, s in self.schedules.items()}
        if self.refine_from:
            own[REFINED] = {"refined_from": own[self.refine_from], "warmup": self._warmup}
        definitions = {name: {"schedule": own[name], "averages": averages} for name in own}
        object.__setattr__(self, "_definitions", definitions)

    @property
    def names(self) -> list[str]:
        return list(self._definitions)

    @property
    def _warmup(self) -> int:
        """The warm-up of the refined schedule, in steps: that of the schedule that records."""
        return self.schedules[self.refine_from].warmup_steps if self.refine_from else 0

    def steps(self, name: str) -> int:
        recorded = self.refine_from if name == REFINED else None
        return self.schedules[recorded or name].total_steps or 0

    def definition(self, name: str) -> dict[str, Any] | None:
        """What has to be equal for outcomes to be comparable; None for an unknown schedule."""
        return self._definitions.get(name)

    def is_left(self, name: str, seed: int, file: AblationFile) -> bool:
        """Whether a run is missing, or has to be repeated to record the norms for "refined"."""
        to_refine = name == self.refine_from and (REFINED, seed) not in file.outcomes
        return (name, seed) not in file.outcomes or (to_refine and not file.has_norms(name, seed))

    def outcome(self, train: Train, name: str, seed: int, file: AblationFile) -> Outcome:
        if name == REFINED and self.refine_from:
            try:
                log = file.norms(self.refine_from, seed)
                schedule = refine(log, self.steps(name), warmup=self._warmup)
            except ValueError as reason:  # the recording run diverged
                print(f"{REFINED}, seed {seed}, is not trained: {reason}", file=sys.stderr)
                return Outcome(name, seed, dict.fromkeys([NONE, *self.averages], math.nan), 0.0)
        else:
            schedule = self.schedules[name]
        run = Run(self._at_its_peak(schedule), seed, self.averages, name == self.refine_from)
        began = time.monotonic()
        try:
            metrics = self._metrics(train(run))
        finally:
            run.close()
        seconds = time.monotonic() - began
        if all(map(math.isfinite, metrics.values())):  # a diverged run may have stopped early
            run.require_whole()
        if run.recorder is None and name == self.refine_from:
            raise ValueError("train must call run.start(model, optimizer), to record its norms")
        if self.several_seeds and not run.seed_was_read:
            raise ValueError(
                "train never read run.seed: seed the model and the order of the data with it, as "
                "by torch.manual_seed(run.seed), or ask for one seed"
            )
        if run.recorder is not None:
            file.keep_norms(name, seed, run.recorder.log)
        return Outcome(name, seed, metrics, seconds)

    def _at_its_peak(self, schedule: Schedule) -> Schedule:
        if self.tuned_with is None:
            return schedule
        return schedule * transfer_lr(1.0, self.schedules[self.tuned_with], schedule)

    def _metrics(self, returned: float | Mapping[str, float]) -> dict[str, float]:
        wanted = [NONE, *self.averages]
        try:
            metrics = dict(returned) if isinstance(returned, Mapping) else {NONE: float(returned)}
        except (TypeError, ValueError):
            metrics = None
        if metrics is None or list(metrics) != wanted:
            got = repr(returned) if metrics is None else ", ".join(metrics)
            raise ValueError(
                f"train must return run.judge(evaluate), a metric for {', '.join(wanted)}; "
                f"got {got}"
            )
        return metrics


class _Progress:
    def __init__(self, total: int, left: int) -> None:
        self._total, self._left = total, left
        self._began, self._made = time.monotonic(), 0

    def say(self, outcome: Outcome) -> None:
        self._made += 1
        self._left -= 1
        each = (time.monotonic() - self._began) / self._made
        rest = f"; about {each * self._left:.0f} s left" if self._left else ""
        print(f"[{self._total - self._left}/{self._total}] {outcome}{rest}", file=sys.stderr)
