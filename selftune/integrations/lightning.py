"""Integration with Lightning: `Trainer(callbacks=[SelfTuneCallback()])`."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch import Tensor

from selftune.integrations.framework import needed, ours, step_sizes
from selftune.optim import Optimizer, attach

with needed("lightning"):
    if find_spec("lightning") is None and find_spec("pytorch_lightning") is not None:
        from pytorch_lightning import Callback, LightningModule, Trainer  # its older name
    else:
        from lightning.pytorch import Callback, LightningModule, Trainer


class SelfTuneCallback(Callback):
    """Validates and checkpoints the evaluation weights, and logs step sizes.

    While the Trainer fits, the module is attached to those of its optimizers that are selftune's,
    with automatic or manual optimization; afterwards it is plain and at the evaluation weights.
    `step_size` is logged every `log_every_n_steps` (`step_size/1` is that of the second parameter
    group). The callback passes the loss of each backward pass to methods that need it. Lightning's
    WeightAveraging averages the evaluation weights.
    """

    def __init__(self) -> None:
        self._hooks: list[Any] = []  # to be removed

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove_hooks()  # of a fit that was interrupted
        kinds = {kind.__name__ for each in trainer.callbacks for kind in type(each).__mro__}
        for optimizer in _ours(trainer):
            self._hooks.append(attach(pl_module, optimizer))
            if "WeightAveraging" in kinds:  # it reads the parameters after each step
                self._hooks.append(optimizer.register_step_post_hook(_to_evaluation))

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        needing = [optimizer for optimizer in _ours(trainer) if optimizer.takes_loss]
        if needing:
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            unscaled = loss.detach() / (scaler.get_scale() if scaler else 1)
            mean = trainer.strategy.reduce(unscaled, reduce_op="mean")
            for optimizer in needing:
                optimizer.add_loss(mean)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        every = trainer.log_every_n_steps
        if every and trainer.global_step % every == 0:
            pl_module.log_dict(step_sizes(trainer.optimizers), on_step=True, on_epoch=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for optimizer in _ours(trainer):
            optimizer.eval()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _ours(trainer: Trainer) -> list[Optimizer]:
    return list(filter(None, map(ours, trainer.optimizers)))


def _to_evaluation(optimizer: Any, *_: Any) -> None:
    optimizer.eval()
