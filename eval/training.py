"""The training loop: a generator of evaluations."""

import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import isfinite, nan

import numpy as np
import torch
from torch import Tensor, nn

from selftune.averaging import recalibrate_batch_norm
from selftune.averaging.module_tensors import buffers_restored

from .clock import Clock
from .closure import Closure
from .methods import Build, Weights
from .methods.built import built, entered
from .workload import Arrays, Batch, Workload

RECALIBRATION_BATCHES = 16


@dataclass(frozen=True)
class Seeds:
    """The seeds of a trial's random number generators, the same for every method."""

    model: int  # torch's global generator: initialisation, dropout
    data: int  # order and augmentation of the training data
    recalibration: int  # the batches that BatchNorm statistics are re-estimated from

    @staticmethod
    def of(workload: str, study: int, seed: int) -> "Seeds":
        """The seeds of one study of one workload, independent of all others."""
        key = (zlib.crc32(workload.encode()), study)
        model, data, recalibration = np.random.SeedSequence(seed, spawn_key=key).generate_state(3)
        return Seeds(int(model), int(data), int(recalibration))


@dataclass(frozen=True)
class Evaluation:
    """The state of a training run after `step` steps."""

    step: int
    loss: float  # mean training loss since the last evaluation
    validation: float  # the metric; nan once the loss is not finite
    seconds: float  # training and preparing for evaluation, so far
    evaluation_seconds: float  # evaluating, so far
    # These two can be called only before training continues.
    test: Callable[[], float]  # the metric on the test split
    at: Callable[[Weights, str], float]  # the metric at other weights, on "validation" or "test"
    last: bool  # no steps are left, or the weights cannot change any more

    @property
    def diverged(self) -> bool:
        return not isfinite(self.loss)


class Run:
    """A model, its optimizer and schedule, and its batches; trains one step at a time.

    training: the training split, on the device.
    """

    def __init__(
        self, workload: Workload, build: Build, training: Arrays, seeds: Seeds, device: str
    ):
        torch.manual_seed(seeds.model)
        self._workload = workload
        self.model = workload.build_model().to(device)
        self.optimizer, self._scheduler, self.weights = built(build, self.model, workload.step_hint)
        self.batches = _batches(workload, training, seeds.data)
        self._closure = Closure(self.model)

    def step(self, batch: Batch) -> Tensor:
        """Train on a batch; returns its loss before the step."""
        loss = self._compute(batch)
        self.optimizer.step(self._closure(loss, partial(self._compute, batch)))
        if self._scheduler is not None:
            self._scheduler.step()
        return loss.detach()

    def _compute(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        loss = self._workload.loss(self.model, batch)
        loss.backward()
        return loss


def train(
    workload: Workload, build: Build, seeds: Seeds, steps: int, device: str
) -> Generator[Evaluation, None, None]:
    """Train for `steps` steps; evaluate every `eval_period` of them and after the last.

    The model is at the evaluation weights while the caller looks at an evaluation.
    A non-finite training loss ends the run, and so does a schedule that has come to zero.
    """
    splits = workload.load()
    training, validation, test = (
        moved(split, device) for split in (splits.train, splits.validation, splits.test)
    )
    run = Run(workload, build, training, seeds, device)
    model, weights = run.model, run.weights
    other_batches = _batches(workload, training, seeds.recalibration)

    def at(weights: Weights, split: str) -> float:
        with _evaluation_weights(workload, model, weights, other_batches):
            return _evaluate(workload, model, {"validation": validation, "test": test}[split])

    clock, evaluation_clock = Clock(device), Clock(device)
    clock.start()
    done = 0
    last = False
    while not last:
        model.train()
        before = [p.detach().clone() for p in model.parameters()]
        period = min(workload.eval_period, steps - done)
        total_loss = torch.zeros((), device=device)
        for batch in islice(run.batches, period):
            total_loss += run.step(batch)
        done += period
        mean_loss = float(total_loss) / period
        if not isfinite(mean_loss):
            seconds = clock.seconds, evaluation_clock.seconds
            yield Evaluation(done, mean_loss, nan, *seconds, _no_test, _no_metric, last=True)
            return
        last = done == steps or _at_rest(run.optimizer, model, before)
        with _evaluation_weights(workload, model, weights, other_batches):
            clock.stop()
            model.eval()
            evaluation_clock.start()
            metric = _evaluate(workload, model, validation)
            evaluation_clock.stop()
            yield Evaluation(
                done,
                mean_loss,
                metric,
                clock.seconds,
                evaluation_clock.seconds,
                lambda: _evaluate(workload, model, test),
                at,
                last,
            )
            clock.start()


def _at_rest(optimizer: torch.optim.Optimizer, model: nn.Module, before: list[Tensor]) -> bool:
    """Whether every learning rate is zero and all weights equal `before`, those a period ago."""
    return all(group.get("lr") == 0 for group in optimizer.param_groups) and all(
        map(torch.equal, model.parameters(), before)
    )


@contextmanager
def _evaluation_weights(
    workload: Workload, model: nn.Module, weights: Weights | None, batches: Iterator[Batch]
) -> Iterator[None]:
    """Move the model to its evaluation weights inside the block, and back afterwards.

    BatchNorm statistics are recomputed at these weights.
    """
    if weights is None:
        yield
        return
    with buffers_restored(model), entered(weights):
        recalibrate_batch_norm(model, islice(batches, RECALIBRATION_BATCHES), workload.loss)
        yield


@torch.no_grad()
def _evaluate(workload: Workload, model: nn.Module, split: Arrays) -> float:
    return workload.evaluate(model, split)


def _no_test() -> float:
    return nan


def _no_metric(weights: Weights, split: str) -> float:
    return nan


def _batches(workload: Workload, training: Arrays, seed: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return workload.training_batches(training, workload.batch_size, generator)


def moved(split: Arrays, device: str) -> Arrays:
    """The split with its tensors on the device."""
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in split.items()
    }
