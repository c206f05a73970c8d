"""Integration with skorch: `NeuralNet(..., optimizer=SelfTune, callbacks=[SelfTuneCallback()])`."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from selftune.integrations.framework import needed, ours, step_sizes
from selftune.optim import attach

with needed("skorch"):
    from skorch import NeuralNet
    from skorch.callbacks import Callback


class SelfTuneCallback(Callback):
    """Scores and saves the evaluation weights, and records `step_size` in the net's history.

    During `fit` and `partial_fit` the net's modules are attached to those of its optimizers that
    are selftune's; otherwise they are plain and at the evaluation weights.
    """

    def on_train_begin(self, net: NeuralNet, *_: Any, **__: Any) -> None:
        self._detach()  # from a fit that was interrupted
        modules = [getattr(net, f"{name}_") for name in (*net._modules, *net._criteria)]
        self._attachments = [attach(modules, each) for each in _optimizers(net) if ours(each)]

    def on_epoch_end(self, net: NeuralNet, *_: Any, **__: Any) -> None:
        for name, size in step_sizes(_optimizers(net)).items():
            net.history.record(name, size)

    def on_train_end(self, net: NeuralNet, *_: Any, **__: Any) -> None:
        for attachment in self._attachments:
            attachment.optimizer.eval()
        self._detach()

    def _detach(self) -> None:
        for attachment in getattr(self, "_attachments", ()):
            attachment.remove()
        self._attachments = []


def _optimizers(net: NeuralNet) -> list[Any]:
    return [getattr(net, f"{name}_") for name in net._optimizers]
