"""One trial: one method on one workload with one set of seeds, and the record of it."""

import platform
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import takewhile
from math import isfinite
from typing import Any

import torch

from .cli import in_a_line
from .data import sha256
from .fingerprint import fingerprint
from .methods import Build
from .observers import Observers
from .results import Key, Record, finite
from .training import Evaluation, Seeds, train
from .workload import Workload

Watch = Callable[[int, float], None]  # told the step and the metric of every evaluation


@dataclass(frozen=True)
class Trial:
    """Everything that a process needs for training; can be pickled."""

    workload: Workload
    method: str  # its name in tables
    configuration: str  # of the method: its summary, or its source's sha256
    build: Build
    study: int
    seed: int
    budget: float  # in multiples of the workload's step_hint
    target: float | None  # the metric that ends the trial; None: it trains its whole budget
    device: str
    details: dict[str, Any] = field(default_factory=dict)  # further entries of its record
    observers: Observers = field(default_factory=Observers)

    @property
    def key(self) -> Key:
        return self.workload.name, self.method, self.study

    @property
    def steps(self) -> int:
        return max(1, round(self.budget * self.workload.step_hint))

    @property
    def rules(self) -> dict[str, Any]:
        """The rules of the record, which have to be equal for two records to be comparable."""
        return {
            "budget": self.budget,
            "seed": self.seed,
            "step_hint": self.workload.step_hint,
            "batch_size": self.workload.batch_size,
            "target": self.target,
            "metric": self.workload.metric.name,
            "higher_is_better": self.workload.metric.higher_is_better,
            "data": checksum(self.workload),
            "code": fingerprint(self.workload),
            "method": self.configuration,
        }


class Interrupted(Exception):
    """The trial was ended from outside, so that its outcome is unknown."""


def checksum(workload: Workload) -> str | None:
    """The first 16 digits of the sha256 of each data set of the workload; None if it reads none."""
    return "+".join(sha256(dataset)[:16] for dataset in workload.datasets) or None


def run_trial(trial: Trial, watch: Watch = lambda step, metric: None) -> Record:
    """Train until the target or the end of the budget; an error becomes part of the record.

    Raises Interrupted if memory ran out, as other processes may have used it.
    """
    evaluations: list[Evaluation] = []
    observers = trial.observers.start(trial.build, trial.steps)
    seeds = Seeds.of(trial.workload.name, trial.study, trial.seed)
    metric = trial.workload.metric

    def outcome(name: str, reason: str | None = None, test: float | None = None) -> Record:
        return record(trial, evaluations, name, reason, test) | observers.results(metric)

    try:
        running = train(trial.workload, observers.build, seeds, trial.steps, trial.device)
        with closing(running):
            for evaluation in running:
                evaluations.append(evaluation)
                observers.evaluate(evaluation)
                watch(evaluation.step, evaluation.validation)
                if evaluation.diverged:
                    return outcome("failed", f"diverged at step {evaluation.step}")
                if _hit(trial, evaluations):
                    return outcome("hit", test=evaluation.test())
                if evaluation.last:
                    end = "done" if trial.target is None else "miss"
                    return outcome(end, _why_early(trial, evaluation), evaluation.test())
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        if _is_out_of_memory(error):
            raise Interrupted(in_a_line(error)) from error
        return outcome("failed", in_a_line(error))
    raise AssertionError("training ended before its last step")


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's allocator on a CPU raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("can't allocate memory", "not enough memory"))
    )


def _hit(trial: Trial, evaluations: list[Evaluation]) -> Evaluation | None:
    """The evaluation at which the target was reached; None while that is not certain."""
    workload, target, last = trial.workload, trial.target, evaluations[-1]
    if target is None:
        return None
    if not workload.must_hold_target:
        return last if workload.metric.reached(last.validation, target) else None
    if last.step < workload.step_hint and not last.last:
        return None
    kept = takewhile(lambda e: workload.metric.reached(e.validation, target), reversed(evaluations))
    return min(kept, key=lambda e: e.step, default=None)


def _why_early(trial: Trial, last: Evaluation) -> str | None:
    if last.step == trial.steps:
        return None
    return f"at step {last.step} its learning rates were zero and no weight moved any more"


def record(
    trial: Trial,
    evaluations: list[Evaluation],
    outcome: str,
    reason: str | None = None,
    test: float | None = None,
    steps: int = 0,
) -> Record:
    """The record of a trial. What differs between equal runs, the times, is under "seconds".

    steps: number of steps made, for trials that ended before their first evaluation.
    """
    last = evaluations[-1] if evaluations else None
    metrics = [e.validation for e in evaluations if isfinite(e.validation)]
    hit = _hit(trial, evaluations) if outcome == "hit" else None
    return {
        "workload": trial.workload.name,
        "method": trial.method,
        "study": trial.study,
        **trial.details,
        "rules": trial.rules,
        "outcome": outcome,
        "reason": reason,
        "steps_to_target": hit.step if hit else None,
        "steps": last.step if last else steps,
        "best_validation": trial.workload.metric.best(metrics) if metrics else None,
        "final_validation": finite(last.validation) if last else None,
        "test": finite(test),
        "curve": [[e.step, finite(e.loss), finite(e.validation)] for e in evaluations],
        "seconds": {
            "to_target": hit.seconds if hit else None,
            "training": last.seconds if last else 0.0,
            "evaluation": last.evaluation_seconds if last else 0.0,
            "curve": [e.seconds for e in evaluations],
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "selftune": version("selftune"),
            "device": trial.device,
        },
    }
