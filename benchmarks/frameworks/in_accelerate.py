"""A user's training loop with Accelerate, its checkpoints and its trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import ProjectConfiguration
from safetensors.torch import load_file

from benchmarks.frameworks.problem import (
    EPOCHS,
    STEPS_PER_EPOCH,
    Recorder,
    alike,
    at_epoch_ends,
    logged,
    loss_of,
    near,
    net,
    same_bits,
    training_batches,
    validation_batches,
    validation_loss,
    weights_of,
)
from benchmarks.frameworks.subjects import Outcome, Subject


def wire_selftune(model: Any, optimizer: Any) -> None:
    from selftune import attach

    attach(model, optimizer)


def wire_selftune_logs(optimizer: Any) -> dict[str, float]:
    return {"step_size": optimizer.optimizer.step_size()[0]}


def wire_schedulefree_training(optimizer: Any) -> None:
    optimizer.train()


def wire_schedulefree_evaluation(optimizer: Any) -> None:
    optimizer.eval()


class Tracker(GeneralTracker):
    name, requires_logging_directory = "rows", False

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    tracker = property(lambda self: self.rows)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.rows.append(values)


class Script:
    """A user's script, with the lines that the optimizer needs."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject, self.tracker = subject, Tracker()
        self.accelerator = Accelerator(
            cpu=True, log_with=self.tracker, project_config=ProjectConfiguration(str(folder))
        )
        self.accelerator.init_trackers("run")
        model = net()
        optimizer = subject.make(model.parameters())
        self.model, self.optimizer, self.batches, self.validation = self.accelerator.prepare(
            model, optimizer, training_batches(), validation_batches()
        )
        if subject.package == "selftune":
            wire_selftune(self.model, self.optimizer)
        self.recorder = Recorder(model, optimizer)

    def train(self) -> None:
        self.model.train()
        if self.subject.package == "schedulefree":
            wire_schedulefree_training(self.optimizer)
        for batch in self.batches:
            loss = loss_of(self.model, batch)
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
            row = {"loss": loss.item(), "lr": self.optimizer.param_groups[0]["lr"]}
            if self.subject.package == "selftune":
                row |= wire_selftune_logs(self.optimizer)
            self.accelerator.log(row)

    def validate(self) -> float:
        self.model.eval()
        if self.subject.package == "schedulefree":
            wire_schedulefree_evaluation(self.optimizer)
        with torch.no_grad():
            (loss,) = [loss_of(self.model, batch).item() for batch in self.validation]
        return loss


def run(subject: Subject, folder: Path) -> Outcome:
    script = Script(subject, folder)
    validated: list[float] = []
    for epoch in range(EPOCHS):
        script.train()
        validated.append(script.validate())
        script.accelerator.save_state(str(folder / f"epoch{epoch}"))
    recorder = script.recorder
    ends = at_epoch_ends(recorder.weights)
    losses = [validation_loss(weights) for weights in ends]
    best = min(range(EPOCHS), key=validated.__getitem__)
    script.accelerator.load_state(str(folder / f"epoch{best}"))
    best_again = script.validate()
    rows = script.tracker.rows

    part = Script(subject, folder)
    part.train()
    if subject.package == "schedulefree":
        wire_schedulefree_evaluation(part.optimizer)
    part.accelerator.save_state(str(folder / "part"))
    part.train()
    resumed = Script(subject, folder)
    resumed.accelerator.load_state(str(folder / "part"))
    resumed.train()
    return Outcome(
        validated=all(map(near, validated, losses)),
        best=alike(load_file(folder / f"epoch{best}" / "model.safetensors"), ends[best])
        and near(best_again, losses[best]),
        saved=alike(
            load_file(folder / "part" / "model.safetensors"),
            part.recorder.weights[STEPS_PER_EPOCH - 1],
        ),
        resumed=same_bits(weights_of(part.model), weights_of(resumed.model)),
        logged=logged(recorder.step_sizes, rows),
    )
