"""Measurements of any torch optimizer: step size, gradient norm, size of updates, and others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from selftune.refinement.norms import norm


def parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def at_training_weights(optimizer: Any) -> bool:
    return all(group.get("train_mode", True) for group in optimizer.param_groups)


def step_sizes(optimizer: Any) -> list[float]:
    """The effective step size of each parameter group; lr times d for optimizers not of ours."""
    if hasattr(optimizer, "step_size"):
        return optimizer.step_size()
    return [float(group["lr"]) * float(group.get("d", 1)) for group in optimizer.param_groups]


def learnt_distance(optimizer: Optimizer) -> float | None:
    """d of Prodigy, D-Adaptation and similar optimizers; None for others."""
    d = optimizer.param_groups[0].get("d")
    return None if d is None else float(d)


def gradient_norm(optimizer: Any) -> Tensor | None:
    """The L2 norm over all gradients, 0-d; None if there is no gradient."""
    grads = [p.grad for p in parameters(optimizer) if p.grad is not None]
    if not grads:
        return None
    # Fused optimizers get scaled gradients from a GradScaler, and unscale them in the step.
    scale = getattr(optimizer, "grad_scale", None)
    return norm(grads, 2) if scale is None else norm(grads, 2) / scale


def training_weights(optimizer: Any) -> list[Tensor] | None:
    """Copies of the training weights; None if the optimizer cannot give them now."""
    if at_training_weights(optimizer):
        return [p.detach().clone() for p in parameters(optimizer)]
    if hasattr(optimizer, "other_weights"):
        return [optimizer.other_weights(p, g) for g in optimizer.param_groups for p in g["params"]]
    return None


def relative_distance(ones: Sequence[Tensor], others: Iterable[Tensor]) -> Tensor | None:
    """||a - b|| / ||b|| over all tensors, 0-d; None without tensors."""
    if not ones:
        return None
    kept = list(others)
    differences = [a.detach() - b.to(a.dtype) for a, b in zip(ones, kept, strict=True)]
    return norm(differences, 2) / norm(kept, 2)


def distance_from_average(optimizer: Any) -> Tensor | None:
    """||y - x|| / ||x||; None for methods without an average, and before the first step."""
    if not (getattr(optimizer, "averages", False) and hasattr(optimizer, "other_weights")):
        return None
    pairs = [
        (p.detach(), optimizer.other_weights(p, group))
        for group in optimizer.param_groups
        for p in group["params"]
        if optimizer.state.get(p)
    ]
    if not at_training_weights(optimizer):
        pairs = [(y, x) for x, y in pairs]
    return relative_distance([y for y, _ in pairs], [x for _, x in pairs])


def read(numbers: dict[str, Tensor | None]) -> dict[str, float]:
    """Copy numbers to the host in one transfer; None becomes nan."""
    known = {name: number for name, number in numbers.items() if number is not None}
    values: Iterator[float] = iter(())
    if known:
        device = next(iter(known.values())).device
        values = iter(torch.stack([n.to(device) for n in known.values()]).tolist())
    return {name: next(values) if name in known else math.nan for name in numbers}
