"""The trials of an ablation: one for each schedule and study, which takes all averages at once."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from selftune.schedules import Schedule, ScheduleLR, refine, transfer_lr

from ..cli import in_a_line
from ..methods import Build, Built
from ..methods.built import built
from ..observers import Observers, from_json
from ..plan import CROSSED, complete, unfinished
from ..results import Record, Results, key
from ..trial import Trial
from .axes import LRS, REFINED, WARMUP, Axes, with_warmup


@dataclass(frozen=True)
class WithSchedule:
    """A method whose own schedule is replaced by another one."""

    build: Build
    schedule: Schedule
    tuned_with: Schedule | None  # the schedule that the method's lr is right for; None: any

    @property
    def at_its_peak(self) -> Schedule:
        if self.tuned_with is None:
            return self.schedule
        return self.schedule * transfer_lr(1.0, self.tuned_with, self.schedule)

    def __call__(self, model: nn.Module, num_steps: int) -> Built:
        # `schedule` spans the steps of the trial, which exceed step_hint if the budget does.
        optimizer, own, weights = built(self.build, model, num_steps)
        if own is not None:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"]
        return optimizer, ScheduleLR(optimizer, self.at_its_peak), weights


def expanded(trials: Sequence[Trial], axes: Axes) -> list[Trial]:
    """For each trial, one for each schedule and, if needed, one that records norms.

    Raises ValueError for a method that cannot be crossed with these axes.
    """
    schedules = list(axes.schedules)
    if REFINED in schedules:
        schedules.remove(REFINED)
        schedules += [*([axes.recorded] if axes.recorded not in schedules else []), REFINED]
    of_each = {(trial.method, trial.workload.name): trial for trial in trials}  # any study's
    own = {key: _own_schedule(trial, axes) for key, trial in of_each.items()}
    return [
        _with(trial, name, axes, own[trial.method, trial.workload.name])
        for trial in trials
        for name in schedules
    ]


def run(trials: Sequence[Trial], results: Results, jobs: int, retry_failed: bool = False) -> None:
    """Complete the trials; those with a refined schedule run after their norms are recorded."""
    complete([t for t in trials if t.details["schedule"] != REFINED], results, jobs, retry_failed)
    waiting = [trial for trial in trials if trial.details["schedule"] == REFINED]
    ready = []
    for trial in unfinished(waiting, results.records, retry_failed):
        try:
            ready.append(_refined(trial, results.records))
        except ValueError as reason:
            workload, method, study = trial.key
            print(f"{workload} {method} {study} cannot be run: {reason}", file=sys.stderr)
    complete(ready, results, jobs, retry_failed)


def _with(trial: Trial, name: str, axes: Axes, own: Schedule | None) -> Trial:
    """The trial with a schedule; "refined" is the recorded schedule until it can be computed."""
    tuned_with = own if axes.lr == "transferred" else None
    shape = with_warmup(axes.recorded if name == REFINED else name, trial.steps, _warmup(own))
    averages = ", ".join(f"{n} {p.describe()}" for n, p in axes.profiles.items()) or "none"
    made = f"{name} from {axes.recorded} after its warm-up" if name == REFINED else name
    return replace(
        trial,
        method=_method(trial.method, name),
        configuration=(
            f"{trial.configuration}{CROSSED}{made}, lr {LRS[axes.lr]}; averages: {averages}"
        ),
        build=WithSchedule(trial.build, shape, tuned_with),
        target=None,  # every cell trains to the end of its schedule
        details={
            "ablated": trial.method,
            "schedule": name,
            "recorded": axes.recorded if name == REFINED else None,
            "aim": trial.target,
        },
        observers=Observers(
            averages=axes.profiles,
            record_norms=name == axes.recorded and REFINED in axes.schedules,
        ),
    )


def _refined(trial: Trial, records: Sequence[Record]) -> Trial:
    """The trial with the schedule that is refined from its study's recording run.

    Raises ValueError if there is none.
    """
    assert isinstance(trial.build, WithSchedule)
    name = _method(trial.details["ablated"], trial.details["recorded"])
    cell = (trial.workload.name, name, trial.study)
    recording = next((record for record in records if key(record) == cell), None)
    if recording is None:
        raise ValueError(f"{name}, which records its norms, has no result")
    if recording["outcome"] != "done":
        raise ValueError(f"{name}, which records its norms, failed: {recording['reason']}")
    warmup = trial.build.schedule.warmup_steps
    schedule = refine(from_json(recording["norms"]), trial.steps, warmup=warmup)
    objections = list(schedule.diagnostics.warnings)
    return replace(
        trial,
        build=replace(trial.build, schedule=schedule),
        details={**trial.details, "objections": objections},
    )


def _own_schedule(trial: Trial, axes: Axes) -> Schedule | None:
    """The method's own schedule, if it is one of selftune's; else None.

    Raises ValueError if the axes need it.
    """
    try:
        _, scheduler, weights = built(trial.build, trial.workload.build_model(), trial.steps)
    except Exception as error:
        raise ValueError(
            f"{trial.method} cannot be built for {trial.workload.name}, to see its schedule: "
            f"{in_a_line(error)}"
        ) from error
    if weights is not None and axes.profiles:
        raise ValueError(
            f"{trial.method} has evaluation weights of its own: ablate its averaging "
            "with averaging=none only"
        )
    own = scheduler.lr_lambdas[0] if isinstance(scheduler, LambdaLR) else None
    own = scheduler.schedule if isinstance(scheduler, ScheduleLR) else own
    if isinstance(own, Schedule):
        return own
    if axes.lr != "same":
        raise ValueError(
            f"the schedule of {trial.method} is not one of selftune's, so that its lr cannot be "
            "transferred: use lr=same"
        )
    return None


def _warmup(own: Schedule | None) -> float:
    """The method's warm-up, as a fraction of the run."""
    if own is None:
        return WARMUP
    return own.warmup_steps / own.total_steps if own.total_steps else 0.0


def _method(method: str, schedule: str) -> str:
    return f"{method}/{schedule}"
