"""skorch: a net trained with partial_fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, Checkpoint
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset

from benchmarks.frameworks.problem import (
    BATCH,
    EPOCHS,
    TRAINING,
    VALIDATION,
    Net,
    Recorder,
    alike,
    at_epoch_ends,
    logged,
    near,
    same_bits,
    validation_loss,
    weights_of,
)
from benchmarks.frameworks.subjects import Outcome, Subject


def wire_selftune(options: dict[str, Any]) -> None:
    from selftune.integrations.skorch import SelfTuneCallback

    options["callbacks"].append(SelfTuneCallback())


def wire_schedulefree(options: dict[str, Any]) -> None:
    class TrainAndEval(Callback):
        def on_batch_begin(self, net: Any, training: bool = False, **_: Any) -> None:
            net.optimizer_.train() if training else net.optimizer_.eval()

        def on_train_end(self, net: Any, **_: Any) -> None:
            net.optimizer_.eval()

    options["callbacks"].append(TrainAndEval())


def regressor(subject: Subject, folder: Path, callbacks: list[Any]) -> NeuralNetRegressor:
    options: dict[str, Any] = {"callbacks": []}
    wire = globals().get(f"wire_{subject.package}")
    if wire:
        wire(options)
    options["callbacks"] += callbacks
    torch.manual_seed(0)
    lr = {"lr": 1.0 if subject.name == "Prodigy" else 0.01, **subject.options}  # skorch's is .01
    return NeuralNetRegressor(
        Net,
        optimizer=subject.optimizer,
        train_split=predefined_split(TensorDataset(*VALIDATION)),
        max_epochs=EPOCHS,
        batch_size=BATCH,
        verbose=0,
        **{name if name == "lr" else f"optimizer__{name}": value for name, value in lr.items()},
        **options,
    ).initialize()


def weights_in(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def run(subject: Subject, folder: Path) -> Outcome:
    keep = Checkpoint(dirname=str(folder), load_best=True)
    net = regressor(subject, folder, [keep])
    recorder = Recorder(net.module_, net.optimizer_)
    net.partial_fit(*TRAINING)
    ends = at_epoch_ends(recorder.weights)
    losses = [validation_loss(each) for each in ends]
    best = min(range(EPOCHS), key=losses.__getitem__)
    sizes = at_epoch_ends(recorder.step_sizes)
    rows = [{k: v for k, v in dict(row).items() if k != "batches"} for row in net.history]
    with torch.no_grad():
        loss_now = torch.nn.functional.mse_loss(net.module_(VALIDATION[0]), VALIDATION[1]).item()

    names = {"f_params": folder / "part.pt", "f_optimizer": folder / "part_optimizer.pt"}
    part = regressor(subject, folder, [])
    watched = Recorder(part.module_, part.optimizer_)
    part.partial_fit(*TRAINING, epochs=2)
    part.save_params(**names)
    saved = weights_in(names["f_params"])
    expected = watched.weights[-1]
    part.partial_fit(*TRAINING, epochs=2)
    resumed = regressor(subject, folder, [])
    resumed.load_params(**names)
    resumed.partial_fit(*TRAINING, epochs=2)
    return Outcome(
        validated=all(map(near, [row["valid_loss"] for row in rows], losses)),
        best=alike(weights_in(folder / "params.pt"), ends[best]) and near(loss_now, losses[best]),
        saved=alike(saved, expected),
        resumed=same_bits(weights_of(part.module_), weights_of(resumed.module_)),
        logged=logged(sizes, rows),
    )
