"""Engines of ignite, its checkpoints and its TensorBoard logger."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, TensorboardLogger
from ignite.handlers.tensorboard_logger import OptimizerParamsHandler
from ignite.metrics import Loss

from benchmarks.frameworks.problem import (
    EPOCHS,
    Recorder,
    alike,
    at_epoch_ends,
    logged,
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


def wire_selftune_logs(logger: TensorboardLogger, trainer: Engine, optimizer: Any) -> None:
    def step_size(_: Any) -> dict[str, float]:
        return {"step_size": optimizer.step_size()[0]}

    logger.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED, tag="optimizer", output_transform=step_size
    )


def wire_schedulefree(trainer: Engine, evaluator: Engine, optimizer: Any) -> None:
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: optimizer.train())
    evaluator.add_event_handler(Events.STARTED, lambda: optimizer.eval())


class Script:
    """A user's script, with the lines that the optimizer needs."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.model, self.validated = net(), list[float]()
        self.optimizer = subject.make(self.model.parameters())
        loss = torch.nn.functional.mse_loss
        self.trainer = create_supervised_trainer(self.model, self.optimizer, loss)
        metrics = {"loss": Loss(loss)}
        self.evaluator = create_supervised_evaluator(self.model, metrics)
        self.logger = TensorboardLogger(log_dir=str(folder / "logs"))
        self.logger.attach(
            self.trainer, OptimizerParamsHandler(self.optimizer), Events.ITERATION_COMPLETED
        )
        if subject.package == "selftune":
            wire_selftune(self.model, self.optimizer)
            wire_selftune_logs(self.logger, self.trainer, self.optimizer)
        if subject.package == "schedulefree":
            wire_schedulefree(self.trainer, self.evaluator, self.optimizer)
        self.recorder = Recorder(self.model, self.optimizer)

        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.validate)
        kept = {"model": self.model, "optimizer": self.optimizer, "trainer": self.trainer}
        saver = DiskSaver(str(folder), require_empty=False)
        best = Checkpoint(
            {"model": self.model},
            saver,
            filename_prefix="best",
            filename_pattern="{filename_prefix}.pt",
            score_function=lambda engine: -engine.state.metrics["loss"],
        )
        self.evaluator.add_event_handler(Events.COMPLETED, best)
        every = Checkpoint(
            kept, saver, filename_prefix="epoch", filename_pattern="epoch{global_step}.pt",
            n_saved=None, global_step_transform=lambda engine, _: engine.state.epoch,
        )  # fmt: skip
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, every)
        self.kept = kept

    def validate(self) -> None:
        state = self.evaluator.run(validation_batches())
        self.validated.append(state.metrics["loss"])


def run(subject: Subject, folder: Path) -> Outcome:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("ignite").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ignite")
    script = Script(subject, folder / "whole")
    script.trainer.run(training_batches(), max_epochs=EPOCHS)
    script.logger.close()
    recorder = script.recorder
    ends = at_epoch_ends(recorder.weights)
    losses = [validation_loss(weights) for weights in ends]
    best = min(range(EPOCHS), key=losses.__getitem__)
    events = EventAccumulator(str(folder / "whole" / "logs")).Reload()
    columns = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    rows = [
        {tag: values[i].value for tag, values in columns.items()}
        for i in range(len(recorder.weights))
    ]

    middle = torch.load(folder / "whole" / "epoch2.pt", weights_only=False)
    resumed = Script(subject, folder / "resumed")
    Checkpoint.load_objects(resumed.kept, middle)
    resumed.trainer.run(training_batches(), max_epochs=EPOCHS)
    resumed.logger.close()
    kept = torch.load(folder / "whole" / "best.pt", weights_only=False)
    return Outcome(
        validated=all(map(near, script.validated, losses)),
        best=alike(kept.get("model", kept), ends[best]),
        saved=alike(middle["model"], ends[1]),
        resumed=same_bits(weights_of(script.model), weights_of(resumed.model)),
        logged=logged(recorder.step_sizes, rows),
    )
