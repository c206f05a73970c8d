"""selftune in fastai.

    learn = Learner(dls, model, opt_func=opt_func(SelfTune), cbs=SelfTuneCallback())

Other arguments of the Learner are as ever.
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
    """The `opt_func` of a Learner for an optimizer of selftune.

    lr is the optimizer's own default unless it is given: the Learner's is one for Adam. Where a
    method has no momentum, that of `fit_one_cycle` changes nothing.
    """
    lr = inspect.signature(cls).parameters["lr"].default
    return partial(_Wrapper, opt=cls, **{"lr": lr, **options})


class _Wrapper(OptimWrapper):
    """fastai's wrapper of a torch optimizer, whose `mom` may be one that nothing reads."""

    @property
    def hypers(self) -> list[dict[str, Any]]:
        return [{"mom": 0.0, **hypers} for hypers in super().hypers]

    def _set_hyper(self, k: str, v: Any) -> None:
        if k != "mom" or k in self.bwd_map:
            super()._set_hyper(k, v)


class SelfTuneCallback(Callback):
    """The right weights validated and saved; `step_size` among the metrics of every epoch.

    While the Learner fits, its model is attached to its optimizer; afterwards it is a plain one at
    the evaluation weights. Methods that need the loss are given it.

    Raises ValueError when fitting begins with an optimizer that is none of selftune's.
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
