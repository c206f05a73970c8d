"""Integration with transformers' Trainer, and those of TRL and sentence-transformers.

    trainer = Trainer(
        model=model, args=TrainingArguments(..., lr_scheduler_type="constant"),
        optimizer_cls_and_kwargs=(SelfTune, {}), callbacks=[SelfTuneCallback()],
    )

The Trainer's other arguments stay as they are.
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
    """Evaluates and saves the evaluation weights, and logs the step size.

    While the Trainer trains, its model is attached to its optimizer; afterwards the model is plain
    and at the evaluation weights. `step_size` stands beside `learning_rate` in all logs
    (`step_size/1` is that of the second parameter group). The callback passes the loss to methods
    that need it. Warns if a Schedule-Free method is used with a decaying schedule, as the Trainer's
    default is.

    Raises ValueError at the start of training if the optimizer is not one of selftune's.
    """

    _end = staticmethod(lambda: None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._end()  # after a training that was interrupted
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
            optimizer.zero_grad()  # clears the loss of a step that a GradScaler skipped

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["optimizer"].eval()
        self._end()


def _decays(scheduler: Any, steps: int) -> bool:
    """Whether a LambdaLR ends below its peak; False for other schedulers."""
    if not isinstance(scheduler, LambdaLR):
        return False
    shapes = [[fn(steps * k // 20) for k in range(21)] for fn in scheduler.lr_lambdas]
    return any(shape[-1] < DECAYED * max(shape) for shape in shapes)


def _calling_trainer() -> Trainer:
    """The Trainer that calls this callback, from the call stack, as callbacks are not given it."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(trainer := frame.f_locals.get("self"), Trainer):
            return trainer
        frame = frame.f_back
    raise RuntimeError("SelfTuneCallback was called by no transformers.Trainer")
