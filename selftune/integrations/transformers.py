"""selftune in the Trainer of transformers, and in those made of it: TRL, sentence-transformers.

    trainer = Trainer(
        model=model, args=TrainingArguments(..., lr_scheduler_type="constant"),
        optimizer_cls_and_kwargs=(SelfTune, {}), callbacks=[SelfTuneCallback()],
    )

Other arguments of the Trainer are as ever.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from selftune.integrations.framework import needed, ours, step_sizes
from selftune.optim import attach
from selftune.optim.engine.step_guard import DECAYED, guard_of

with needed("transformers"):
    from transformers import Trainer, TrainerCallback


class SelfTuneCallback(TrainerCallback):
    """The right weights evaluated, kept as best and saved; the step size in the Trainer's logs.

    While the Trainer trains, its model is attached to its optimizer; afterwards the model is a
    plain one at the evaluation weights. `step_size` stands beside `learning_rate` in all logs
    (`step_size/1` is that of the second group), and methods that need the loss are given it.
    Warns where a Schedule-Free method meets a schedule that decays, as the Trainer's default does.

    Raises ValueError when training begins with an optimizer that is none of selftune's.
    """

    _end = staticmethod(lambda: None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._end()  # training that was interrupted
        optimizer = ours(kwargs["optimizer"])
        if optimizer is None:
            raise ValueError(
                "SelfTuneCallback is for optimizers of selftune: give the Trainer one, as in "
                "optimizer_cls_and_kwargs=(SelfTune, {})"
            )
        if optimizer.averages and _decays(kwargs["lr_scheduler"], state.max_steps):
            guard_of(optimizer).remark_on_decay(
                f"{type(optimizer).__name__} averages in the place of a decaying schedule, but "
                "the Trainer's schedule decays: set lr_scheduler_type='constant'"
            )
        trainer = _calling_trainer()
        log, training_step = trainer.log, trainer.training_step

        def log_with_step_size(logs: dict[str, float], *rest: Any, **named: Any) -> None:
            log(logs | step_sizes([optimizer]) if "learning_rate" in logs else logs, *rest, **named)

        def training_step_for_loss(*batch: Any, **named: Any) -> Tensor:
            loss = training_step(*batch, **named)
            optimizer.add_loss(trainer.accelerator.reduce(loss.detach(), "mean"))
            return loss

        trainer.log = log_with_step_size
        if optimizer.takes_loss:
            trainer.training_step = training_step_for_loss
        attachment = attach(kwargs["model"], optimizer)

        def end() -> None:
            del self._end
            attachment.remove()
            trainer.log, trainer.training_step = log, training_step

        self._end = end

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = ours(kwargs["optimizer"])
        if optimizer is not None and optimizer.takes_loss:
            optimizer.zero_grad()  # and forget the loss of a step that a GradScaler skipped

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["optimizer"].eval()
        self._end()


def _decays(scheduler: Any, steps: int) -> bool:
    """Whether a schedule made of functions of the step ends below its peak."""
    if not isinstance(scheduler, LambdaLR):
        return False
    shapes = [[fn(steps * k // 20) for k in range(21)] for fn in scheduler.lr_lambdas]
    return any(shape[-1] < DECAYED * max(shape) for shape in shapes)


def _calling_trainer() -> Trainer:
    """The Trainer whose loop calls: it gives callbacks neither itself nor the loss."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(trainer := frame.f_locals.get("self"), Trainer):
            return trainer
        frame = frame.f_back
    raise RuntimeError("SelfTuneCallback was called by no transformers.Trainer")
