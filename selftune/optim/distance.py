"""Estimation of the distance d in Prodigy and D-Adaptation: options, sums, and bounds on d."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import is_sharded
from selftune.optim.engine.options import require
from selftune.optim.optimizer import (
    Group,
    Write,
    is_flattened,
    lr_of,
    put,
    write,
)
from selftune.tensor_list import TensorList

# An estimate more than so many times d is rejected. The second step of D-Adapt Adam alone gives
# d / (2 sqrt(1 - beta2)), 16 d for beta2 = 0.999 and 500 d for 0.999999; over 900 random runs no
# step of any method gave more than 19 d (benchmarks/growth_of_d.py). Larger estimates come from
# weights that were replaced unnoticed, or from gradients that cancel.
LARGEST_JUMP = 1000.0


def adam_correction(group: Group, step: int) -> float:
    """Adam's bias correction of m / sqrt(v) as one factor; 1 without `use_bias_correction`."""
    if not group["use_bias_correction"]:
        return 1.0
    beta1, beta2 = group["betas"]
    return math.sqrt(1 - beta2**step) / (1 - beta1**step)


def sliced_start(p: Tensor, slice_p: int) -> dict[str, Tensor]:
    """Prodigy's initial p0 and s, of every `slice_p`-th element."""
    (p0,) = TensorList([p.detach()]).every(slice_p).clone()
    return {"p0": p0, "s": torch.zeros_like(p0)}


def restart_sample(p: Tensor, state: Mapping[str, Tensor], group: Group, write: Write) -> None:
    """Restart Prodigy's p0 and s at newly loaded weights, but not when a constraint is applied."""
    if write.where is None and not write.again:
        (sample,) = TensorList([p]).every(group["slice_p"])
        state["p0"].copy_(sample)
        state["s"].zero_()


def restart_at(p: Tensor, state: Mapping[str, Tensor], group: Group, write: Write) -> None:
    """Restart p0 and s where a parameter was written from outside."""
    put(state["p0"], p, write.where)
    put(state["s"], torch.zeros_like(p), write.where)


def check_sample(group: Group) -> None:
    """Check `slice_p`, which has to be 1 for sharded parameters: ranks would slice their shards."""
    slice_p = group["slice_p"]
    require(slice_p >= 1 and slice_p == int(slice_p), "slice_p", slice_p, "{1, 2, ...}")
    if slice_p > 1 and any(is_sharded(p) or is_flattened(p) for p in group["params"]):
        raise ValueError(f"slice_p must be 1 for sharded parameters, got {slice_p}")


def largest_lr(groups: list[Group]) -> float:
    """The largest lr of all groups, which scales d; each group's lr counts relative to it."""
    return max(lr_of(group) for group in groups)


def check_distance(group: Group) -> None:
    """Check the options that all methods with a d share."""
    require(0 < group["d0"] < math.inf, "d0", group["d0"], "(0, inf)")
    require(group["growth_rate"] >= 1, "growth_rate", group["growth_rate"], "[1, inf]")


def require_alike(first: Mapping[str, Any], group: Mapping[str, Any], *names: str) -> None:
    """Raise ValueError for options that differ between groups, which share one estimate."""
    for name in names:
        if group[name] != first[name]:
            raise ValueError(
                f"{name} must be the same in all groups, as they share one estimate; "
                f"got {group[name]} after {first[name]}: give it to the optimizer instead"
            )


def credible(d_hat: Tensor, d: Tensor) -> Tensor:
    """The estimate `d_hat`, or the present d where the estimate is rejected.

    An estimate is rejected if it is not finite (0 / 0 before the first gradient, an overflow) or
    more than `LARGEST_JUMP` times the present d, which the optimizer's own steps cannot explain.
    """
    return torch.where(d_hat.isfinite() & (d_hat <= LARGEST_JUMP * d), d_hat, d)


def finite_or(number: Tensor, before: Tensor) -> Tensor:
    """A new value, or the old one if the new one is not finite."""
    return torch.where(number.isfinite(), number, before)


def grown(d: Tensor, d_hat: Tensor, growth_rate: float) -> Tensor:
    """D-Adaptation's new d: never smaller, at most `growth_rate` times larger."""
    return torch.maximum(d, torch.minimum(credible(d_hat, d), d * growth_rate))


def learn_prodigys_distance(
    groups: list[Group], beta3: float, numerator: Tensor, denominator: Tensor
) -> None:
    """Update Prodigy's d from a step's sums; `growth_rate` does not limit its first increase."""
    group = groups[0]
    d, d_max = group["d"], group["d_max"]
    before = group["d_numerator"]
    d_numerator = finite_or(beta3 * before + numerator, before)
    d_hat = credible(group["d_coef"] * d_numerator / denominator, d)
    d = torch.where(d == group["d0"], torch.maximum(d, d_hat), d)
    d_max = torch.maximum(d_max, d_hat)
    d = torch.minimum(d_max, d * group["growth_rate"])
    write(groups, d=d, d_max=d_max, d_numerator=d_numerator)
