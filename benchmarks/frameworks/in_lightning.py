"""Lightning, with validation in the middle of epochs."""

from __future__ import annotations

import csv
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from benchmarks.frameworks.problem import (
    EPOCHS,
    Recorder,
    alike,
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

VALIDATED_EVERY, SAVED_AT = 2, 12  # step 12 ends an epoch; its loader cannot resume within one


def wire_selftune(callbacks: list[Callback]) -> None:
    from selftune.integrations.lightning import SelfTuneCallback

    callbacks.append(SelfTuneCallback())


def wire_schedulefree(callbacks: list[Callback]) -> None:
    class TrainAndEval(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            trainer.optimizers[0].train()

        def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
            trainer.optimizers[0].eval()

        def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
            trainer.optimizers[0].eval()

    callbacks.append(TrainAndEval())


class Module(LightningModule):
    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.subject, self.net = subject, net()
        self.validated: dict[int, float] = {}

    def configure_optimizers(self) -> Any:
        optimizer = self.subject.make(self.net.parameters())
        self.recorder = Recorder(self.net, optimizer)
        return optimizer

    def training_step(self, batch: Any, index: int) -> Tensor:
        return loss_of(self.net, batch)

    def validation_step(self, batch: Any, index: int) -> None:
        loss = loss_of(self.net, batch)
        self.validated[self.trainer.global_step] = loss.item()
        self.log("val_loss", loss)


def trainer(subject: Subject, folder: Path, **options: Any) -> Trainer:
    callbacks = options.pop("callbacks", [])
    wire = globals().get(f"wire_{subject.package}")
    if wire:
        wire(callbacks)
    options = {
        "max_epochs": EPOCHS,
        "val_check_interval": VALIDATED_EVERY,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(each, ModelCheckpoint) for each in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        **options,
    }
    return Trainer(default_root_dir=folder, callbacks=callbacks, **options)


def weights_in(path: Any) -> dict[str, Tensor]:
    saved = torch.load(path, weights_only=True)["state_dict"]
    return {name.removeprefix("net."): value for name, value in saved.items()}


def run(subject: Subject, folder: Path) -> Outcome:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    data = training_batches(), validation_batches()

    keep = ModelCheckpoint(folder / "best", monitor="val_loss", save_top_k=1)
    module, logger = Module(subject), CSVLogger(folder)
    whole = trainer(subject, folder, callbacks=[keep], logger=logger)
    whole.fit(module, *data)
    losses = [validation_loss(each) for each in module.recorder.weights]
    validated = dict(module.validated)
    best = min(validated, key=lambda step: losses[step - 1])
    kept = weights_in(keep.best_model_path)
    (again,) = whole.validate(module, data[1], ckpt_path="best", verbose=False)
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    rows = [row for row in rows if "val_loss" not in row]

    ends = []
    for path in (None, folder / "saved" / "at.ckpt"):
        saving = ModelCheckpoint(folder / "saved", "at", every_n_train_steps=SAVED_AT)
        other = Module(subject)
        fitting = trainer(subject, folder, callbacks=[saving], limit_val_batches=0, max_steps=17)
        fitting.fit(other, *data, ckpt_path=path)
        ends.append(weights_of(other.net))
    saved = weights_in(folder / "saved" / "at.ckpt")
    return Outcome(
        validated=all(near(loss, losses[step - 1]) for step, loss in validated.items()),
        best=alike(kept, module.recorder.weights[best - 1])
        and near(again["val_loss"], losses[best - 1]),
        saved=alike(saved, module.recorder.weights[SAVED_AT - 1]),
        resumed=same_bits(*ends),
        logged=logged(module.recorder.step_sizes, rows),
    )
