"""fastai's Learner."""

from __future__ import annotations

import contextlib
import csv
import io
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.callback.progress import CSVLogger, ProgressCallback
from fastai.callback.tracker import SaveModelCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.frameworks.problem import (
    BATCH,
    EPOCHS,
    TRAINING,
    VALIDATION,
    Recorder,
    alike,
    at_epoch_ends,
    logged,
    near,
    net,
    same_bits,
    validation_loss,
    weights_of,
)
from benchmarks.frameworks.subjects import Outcome, Subject


def wire_selftune(options: dict[str, Any], subject: Subject) -> None:
    from selftune.integrations.fastai import SelfTuneCallback, opt_func

    options["opt_func"] = opt_func(subject.optimizer, **subject.options)
    options["cbs"].append(SelfTuneCallback())


def wire_schedulefree(options: dict[str, Any], subject: Subject) -> None:
    class TrainAndEval(Callback):
        def before_train(self) -> None:
            self.opt.opt.train()

        def before_validate(self) -> None:
            self.opt.opt.eval()

        def after_fit(self) -> None:
            self.opt.opt.eval()

    options["cbs"].append(TrainAndEval())


class Recording(Callback):
    order = -5

    def before_fit(self) -> None:
        self.watched = Recorder(self.learn.model, self.learn.opt.opt)


def learner(subject: Subject, folder: Path, callbacks: list[Any]) -> Learner:
    data = DataLoaders(
        DataLoader(TensorDataset(*TRAINING), bs=BATCH),
        DataLoader(TensorDataset(*VALIDATION), bs=len(VALIDATION[0])),
    )
    lr = {"lr": 1.0, **subject.options}  # the Learner's own is Adam's
    wrapped = partial(OptimWrapper, opt=subject.optimizer, **lr)
    options: dict[str, Any] = {"opt_func": wrapped, "cbs": []}
    wire = globals().get(f"wire_{subject.package}")
    if wire:
        wire(options, subject)
    options["cbs"] += callbacks
    learn = Learner(data, net(), loss_func=nn.functional.mse_loss, path=folder, **options)
    learn.remove_cb(ProgressCallback)
    return learn


def weights_in(path: Path) -> dict[str, Tensor]:
    saved = torch.load(path, weights_only=True)
    return saved.get("model", saved)


def run(subject: Subject, folder: Path) -> Outcome:
    with contextlib.redirect_stdout(io.StringIO()):
        return _run(subject, folder)


def _run(subject: Subject, folder: Path) -> Outcome:
    recording = Recording()
    keep = SaveModelCallback(with_opt=True)
    learn = learner(subject, folder, [recording, keep, CSVLogger()])
    learn.fit(EPOCHS)
    recorder = recording.watched
    ends = at_epoch_ends(recorder.weights)
    losses = [validation_loss(weights) for weights in ends]
    best = min(range(EPOCHS), key=losses.__getitem__)
    with open(folder / "history.csv") as file:
        rows = [{k: v for k, v in row.items() if k != "time"} for row in csv.DictReader(file)]
    kept = weights_of(learn.model)
    with learn.removed_cbs([keep]):
        loss_now = learn.validate()[0]

    recording = Recording()
    part = learner(subject, folder, [recording])
    part.fit(2)
    part.save("part", with_opt=True)
    saved = weights_in(folder / "models" / "part.pth")
    expected = recording.watched.weights[-1]
    part.fit(2)
    resumed = learner(subject, folder, [])
    resumed.load("part", with_opt=True, weights_only=True)
    resumed.fit(2)
    return Outcome(
        validated=all(map(near, [float(row["valid_loss"]) for row in rows], losses)),
        best=alike(kept, ends[best]) and near(loss_now, losses[best]),
        saved=alike(saved, expected),
        resumed=same_bits(weights_of(part.model), weights_of(resumed.model)),
        logged=logged(at_epoch_ends(recorder.step_sizes), rows),
    )
