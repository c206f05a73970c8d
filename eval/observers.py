"""Observers of a trial, which do not change it: weight averages, a recorder of gradient norms, and
curves of the numbers in the optimizer's parameter groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from selftune.averaging import Profile, WeightAverage
from selftune.schedules import GradientNorms, NormLog

from .methods import Build, Built
from .methods.built import built
from .results import Record, finite
from .training import Evaluation
from .workload import Metric

RECORDS = 500  # largest number of records of norms that a trial keeps


@dataclass(frozen=True)
class Observers:
    """The observers that a trial should have.

    averages: profiles by name; each average is evaluated whenever the trial is evaluated, as if
        it were part of the method.
    record_norms: whether to record gradient and weight norms.
    """

    averages: Mapping[str, Profile] = field(default_factory=dict)
    record_norms: bool = False

    def start(self, build: Build, steps: int) -> "ActiveObservers":
        return ActiveObservers(self, build, steps)


class ActiveObservers:
    """The observers of a running trial."""

    def __init__(self, observers: Observers, build: Build, steps: int):
        self._observers, self._build, self._steps = observers, build, steps
        self._recorder: GradientNorms | None = None
        self._averages: dict[str, WeightAverage] = {}
        self._model: nn.Module | None = None
        self._optimizer: Optimizer | None = None
        self._numbers: list[tuple[int, dict[str, float]]] = []
        self._curves: dict[str, list[tuple[int, float]]] = {name: [] for name in observers.averages}
        self._tests: dict[str, float] = {}

    def build(self, model: nn.Module, num_steps: int) -> Built:
        """Build the method, and attach the observers to its optimizer."""
        optimizer, scheduler, weights = built(self._build, model, num_steps)
        self._model, self._optimizer = model, optimizer
        self._numbers.append((0, _numbers(optimizer)))
        for name, profile in self._observers.averages.items():
            self._averages[name] = WeightAverage(model, profile, total_steps=self._steps)
            self._averages[name].attach(optimizer)
        if self._observers.record_norms:
            self._recorder = GradientNorms(optimizer, capacity=RECORDS)
        return optimizer, scheduler, weights

    def evaluate(self, evaluation: Evaluation) -> None:
        """Evaluate the averages at an evaluation of the trial, and read the groups' numbers."""
        assert self._optimizer is not None
        self._numbers.append((evaluation.step, _numbers(self._optimizer)))
        for name, average in self._averages.items():
            if evaluation.diverged or not average.folds:  # empty before the profile's start
                continue
            assert self._model is not None
            weights = partial(average.swap, self._model)
            metric = evaluation.at(weights, "validation")
            self._curves[name].append((evaluation.step, metric))
            if evaluation.last:
                self._tests[name] = evaluation.at(weights, "test")

    def results(self, metric: Metric) -> Record:
        """The entries of the trial's record: changed numbers of the groups, averages, norms."""
        moved = _moved(self._numbers)
        found: Record = {"param_groups": moved} if moved else {}
        if self._observers.averages:
            found["averages"] = {
                name: {
                    "best_validation": _best(metric, curve),
                    "final_validation": finite(curve[-1][1]) if curve else None,
                    "test": finite(self._tests.get(name)),
                    "curve": [[step, finite(value)] for step, value in curve],
                }
                for name, curve in self._curves.items()
            }
        if self._recorder is not None:
            found["norms"] = to_json(self._recorder.log)
        return found


def _numbers(optimizer: Optimizer) -> dict[str, float]:
    """All numbers in the groups by name: "d" in the first group, "d[1]" in the second, ..."""
    found: dict[str, float] = {}
    for index, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if isinstance(value, Tensor):
                value = value.item() if value.numel() == 1 else None
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                value = float(value)
                found[f"{name}[{index}]" if index else name] = value
    return found


def _moved(numbers: list[tuple[int, dict[str, float]]]) -> dict[str, list[list[float | None]]]:
    """The curves of numbers that changed in a run, such as learning rates and d.

    A group with the same curve as the first group is left out.
    """
    names = dict.fromkeys(name for _, at_step in numbers for name in at_step)
    curves = {
        name: [[step, _short(found[name])] for step, found in numbers if name in found]
        for name in names
    }
    return {
        name: curve
        for name, curve in curves.items()
        if any(value != curve[0][1] for _, value in curve)
        and (("[" not in name) or curve != curves.get(name.partition("[")[0]))
    }


def to_json(log: NormLog) -> dict[str, Any]:
    assert log.lrs is not None
    series = {"lrs": log.lrs, **log.norms}
    return {
        "steps": log.steps.tolist(),
        "series": {name: [_short(value) for value in values] for name, values in series.items()},
        "weight_decay": log.weight_decay,
        "optimizer": log.optimizer,
        "total_steps": log.total_steps,
    }


def from_json(data: Mapping[str, Any]) -> NormLog:
    series = {name: np.array(values, dtype=np.float64) for name, values in data["series"].items()}
    lrs = series.pop("lrs")
    return NormLog(
        steps=np.array(data["steps"], dtype=np.int64),
        norms=series,
        lrs=lrs,
        weight_decay=data["weight_decay"],
        optimizer=data["optimizer"],
        total_steps=data["total_steps"],
    )


def _short(value: float) -> float | None:
    return finite(float(f"{value:.6g}"))


def _best(metric: Metric, curve: list[tuple[int, float]]) -> float | None:
    values = [value for _, value in curve if finite(value) is not None]
    return metric.best(values) if values else None
