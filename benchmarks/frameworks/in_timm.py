"""timm: its optimizer factory, CheckpointSaver and summary."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import torch
from timm.models import resume_checkpoint
from timm.optim import create_optimizer_v2
from timm.utils import CheckpointSaver, update_summary

from benchmarks.frameworks.problem import (
    EPOCHS,
    VALIDATION,
    Recorder,
    alike,
    at_epoch_ends,
    logged,
    loss_of,
    near,
    net,
    same_bits,
    training_batches,
    validation_loss,
    weights_of,
)
from benchmarks.frameworks.subjects import Outcome, Subject


def wire_selftune_names() -> None:
    from selftune.integrations.timm import register

    register()


def wire_selftune_weights(model: Any, optimizer: Any) -> None:
    from selftune import attach

    attach(model, optimizer)


def wire_selftune_logs(optimizer: Any) -> dict[str, float]:
    return {"step_size": optimizer.step_size()[0]}


def wire_schedulefree_training(optimizer: Any) -> None:
    optimizer.train()


def wire_schedulefree_evaluation(optimizer: Any) -> None:
    optimizer.eval()


class Script:
    """A user's script, with the lines that the optimizer needs."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject, self.folder = subject, folder
        self.model = net()
        if subject.package == "selftune":
            wire_selftune_names()
            self.optimizer = create_optimizer_v2(self.model, subject.name, **subject.options)
            wire_selftune_weights(self.model, self.optimizer)
        else:
            self.optimizer = subject.make(self.model.parameters())
        self.recorder = Recorder(self.model, self.optimizer)
        folder.mkdir(exist_ok=True)
        self.saver = CheckpointSaver(
            self.model, self.optimizer, checkpoint_dir=str(folder), decreasing=True
        )

    def train(self, epochs: range) -> list[float]:
        validated: list[float] = []
        for epoch in epochs:
            self.model.train()
            if self.subject.package == "schedulefree":
                wire_schedulefree_training(self.optimizer)
            for batch in training_batches():
                self.optimizer.zero_grad()
                loss = loss_of(self.model, batch)
                loss.backward()
                self.optimizer.step()
            metrics = {"loss": loss.item()}
            if self.subject.package == "selftune":
                metrics |= wire_selftune_logs(self.optimizer)
            self.model.eval()
            if self.subject.package == "schedulefree":
                wire_schedulefree_evaluation(self.optimizer)
            with torch.no_grad():
                validated.append(loss_of(self.model, VALIDATION).item())
            lr = self.optimizer.param_groups[0]["lr"]
            summary = {"loss": validated[-1]}
            first = epoch == 0
            update_summary(epoch, metrics, summary, self.folder / "summary.csv", lr, first)
            self.saver.save_checkpoint(epoch, validated[-1])
        return validated


def weights_in(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)["state_dict"]


def run(subject: Subject, folder: Path) -> Outcome:
    logging.getLogger("timm").setLevel(logging.ERROR)
    script = Script(subject, folder / "whole")
    validated = script.train(range(EPOCHS))
    recorder = script.recorder
    ends = at_epoch_ends(recorder.weights)
    losses = [validation_loss(weights) for weights in ends]
    best = min(range(EPOCHS), key=losses.__getitem__)
    with open(folder / "whole" / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    resumed = Script(subject, folder / "resumed")
    middle = folder / "whole" / "checkpoint-1.pth.tar"
    resume_checkpoint(resumed.model, str(middle), resumed.optimizer, log_info=False)
    resumed.train(range(2, EPOCHS))
    return Outcome(
        validated=all(map(near, validated, losses)),
        best=alike(weights_in(folder / "whole" / "model_best.pth.tar"), ends[best]),
        saved=alike(weights_in(middle), ends[1]),
        resumed=same_bits(weights_of(script.model), weights_of(resumed.model)),
        logged=logged(at_epoch_ends(recorder.step_sizes), rows),
    )
