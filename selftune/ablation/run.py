"""Run: the argument with which `ablate` calls a training function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from selftune.averaging import Profile, WeightAverage
from selftune.refinement.recorder import GradientNorms
from selftune.schedules.lr_scheduler import ScheduleLR
from selftune.schedules.schedule import Schedule
from selftune.step_hooks import innermost_optimizer

NONE = "none"  # the name of the last weights, among averages


class Run:
    """One run of a training function: its schedule and seed, its averages and recorder.

    schedule: the schedule to follow, over the number of steps to make.
    seed: for the model, the order of the data, and all other randomness.
    `ablate` checks that both were read.
    """

    def __init__(
        self, schedule: Schedule, seed: int, averages: Mapping[str, Profile], record: bool
    ) -> None:
        assert schedule.total_steps is not None, "ablate refuses schedules without an end"
        self._schedule, self._seed = schedule, seed
        self.schedule_was_read = self.seed_was_read = False
        self.total_steps = schedule.total_steps
        self.recorder: GradientNorms | None = None
        self._profiles, self._record = averages, record
        self._model: nn.Module | None = None
        self._averages: dict[str, WeightAverage] = {}
        self._scheduler: ScheduleLR | None = None
        self._hooks: list[Any] = []  # on the optimizer, until `close`
        self._optimizer_steps = 0  # calls of step(), including steps that were skipped

    @property
    def schedule(self) -> Schedule:
        self.schedule_was_read = True
        return self._schedule

    @property
    def seed(self) -> int:
        self.seed_was_read = True
        return self._seed

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> ScheduleLR:
        """Attach the averages and the recorder to the optimizer, and return its scheduler.

        Call the scheduler's `step()` after each step of the optimizer.
        """
        if self._model is not None:
            raise RuntimeError("start() was called before: it serves one model and one optimizer")
        self._model = model
        for name, profile in self._profiles.items():
            average = WeightAverage(model, profile, total_steps=self.total_steps)
            self._hooks.append(average.attach(optimizer))
            self._averages[name] = average
        if self._record:
            self.recorder = GradientNorms(optimizer)
        counting = innermost_optimizer(optimizer).register_step_post_hook(self._count)
        self._hooks.append(counting)
        self._scheduler = ScheduleLR(optimizer, self.schedule)
        return self._scheduler

    def judge(
        self,
        evaluate: Callable[[], float],
        batches: Sequence[Any] | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
    ) -> dict[str, float]:
        """The metric at the last weights, under "none", and at each average, under its name.

        batches, forward: for models with BatchNorm, as in `recalibrate_batch_norm`.
        """
        if self._model is None:
            raise RuntimeError("judge() needs start(model, optimizer) before training")
        metrics = {NONE: float(evaluate())}
        for name, average in self._averages.items():
            with average.swap(self._model, batches, forward):
                metrics[name] = float(evaluate())
        return metrics

    def close(self) -> None:
        """Remove the hooks from the optimizer, which `train` may use again."""
        for hook in self._hooks:
            hook.remove()
        if self.recorder is not None:
            self.recorder.close()

    def require_whole(self) -> None:
        """Raise ValueError unless the schedule was followed from its first step to its last."""
        if self._scheduler is None:
            if not self.schedule_was_read:
                raise ValueError(
                    "train must call run.start(model, optimizer), or follow run.schedule: it did "
                    "neither, and trained with every schedule alike"
                )
            return  # train applies the schedule itself, which cannot be checked
        made, wanted = self._scheduler.last_epoch, self.total_steps
        if made == 0:
            raise ValueError(
                f"train made {self._optimizer_steps} steps and never called step() of what "
                "run.start() returned: its learning rate stayed that of the first step"
            )
        if made != wanted:
            raise ValueError(
                f"train called step() of the schedule {made} times, in {self._optimizer_steps} "
                f"steps of the optimizer, where the schedule has {wanted} steps: make "
                "run.total_steps of them, or give schedules of as many steps as train makes"
            )

    def _count(self, *_: Any) -> None:
        self._optimizer_steps += 1
