"""Integration with fastai.

    learn = Learner(dls, model, opt_func=opt_func(SelfTune), cbs=SelfTuneCallback())

The Learner's other arguments stay as they are.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from selftune.integrations.framework import needed, ours, step_sizes
from selftune.optim import Optimizer, attach

with needed("fastai"):
    from fastai.callback.core import Callback
    from fastai.learner import ValueMetric
    from fastai.optimizer import OptimWrapper


def opt_func(cls: type[Optimizer], **options: Any) -> partial[Any]:
    """The `opt_func` with which a Learner makes an optimizer of selftune.

    lr is the optimizer's own default unless it is given here, as the Learner's default is meant for
    Adam. The momentum schedule of `fit_one_cycle` has no effect on a method without momentum.
    """
    lr = inspect.signature(cls).parameters["lr"].default
    return partial(_Wrapper, opt=cls, **{"lr": lr, **options})


class _Wrapper(OptimWrapper):
    """fastai's wrapper of a torch optimizer, which ignores `mom` if there is no momentum."""

    @property
    def hypers(self) -> list[dict[str, Any]]:
        return [{"mom": 0.0, **hypers} for hypers in super().hypers]

    def _set_hyper(self, k: str, v: Any) -> None:
        if k != "mom" or k in self.bwd_map:
            super()._set_hyper(k, v)


class SelfTuneCallback(Callback):
    """Validates and saves the evaluation weights, and adds `step_size` to each epoch's metrics.

    While the Learner fits, its model is attached to its optimizer; afterwards the model is plain
    and at the evaluation weights. The callback passes the loss to methods that need it.

    Raises ValueError at the start of fitting if the optimizer is not one of selftune's.
    """

    order = 8  # before MixedPrecision scales the loss, and Recorder lists the metrics

    def before_fit(self) -> None:
        self._detach()  # from a fit that was interrupted
        optimizer = ours(self.learn.opt.opt) if isinstance(self.learn.opt, OptimWrapper) else None
        if optimizer is None:
            raise ValueError(
                "SelfTuneCallback is for optimizers of selftune: give the Learner one, as in "
                "opt_func=opt_func(SelfTune)"
            )
        self._attachment = attach(self.learn.model, optimizer)
        if "step_size" not in self.learn.metrics.attrgot("name"):
            self.learn.metrics += ValueMetric(self._step_size, "step_size")

    def before_backward(self) -> None:
        self._attachment.optimizer.add_loss(self.learn.loss_grad)

    def after_fit(self) -> None:
        self._attachment.optimizer.eval()
        self._detach()

    def _step_size(self) -> float:
        return step_sizes([self.learn.opt.opt])["step_size"]

    def _detach(self) -> None:
        if (attachment := vars(self).pop("_attachment", None)) is not None:
            attachment.remove()
