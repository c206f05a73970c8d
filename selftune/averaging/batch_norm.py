"""Recomputation of BatchNorm's running statistics for averaged or evaluation weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm


@torch.no_grad()
def recalibrate_batch_norm(
    model: nn.Module,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> None:
    """Recompute the running statistics of every BatchNorm at the present weights.

    Each statistic becomes its mean over the batches. Only the BatchNorms run in training mode:
    dropout stays off. Modes and momenta are restored, also after an error; without any
    BatchNorm nothing runs. InstanceNorms that track statistics are treated in the same way.

    batches: a few training batches, each passed to `forward`; one pass, in order.
    forward: (model, batch) -> anything; if None, `model(batch)`, or `model(batch[0])` for a batch
        that is a list or a tuple, as in `torch.optim.swa_utils.update_bn`.
    Raises ValueError, and changes nothing, if `batches` is empty.
    """
    norms = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    if not norms:
        return
    batches = iter(batches)
    none = object()
    first = next(batches, none)
    if first is none:
        raise ValueError("batches must hold at least one batch, got none")
    training = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
            norm.train()
        for count, batch in enumerate(chain([first], batches), start=1):
            for norm in norms:
                if isinstance(norm, _InstanceNorm):  # it does not support momentum=None
                    norm.momentum = 1 / count
            _ = _forward(model, batch) if forward is None else forward(model, batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in training.items():
            module.training = mode


def _forward(model: nn.Module, batch: Any) -> Any:
    inputs: Any = batch[0] if isinstance(batch, list | tuple) else batch
    return model(inputs)
