"""The sequences x, y and z of the Schedule-Free methods, and the weights of their average.

The sequences, in the paper's letters:
  z  the fast iterate, which takes the gradient steps
  x  the weighted average of z, where the model is evaluated
  y  = (1 - beta) z + beta x, where gradients are taken; `param` holds it in training
x is not stored, as x = y + (1 - 1/beta) (z - y).
"""

from __future__ import annotations

import torch
from torch import Tensor

from selftune.optim.engine.options import require, require_nonnegative
from selftune.optim.optimizer import (
    Bucket,
    Group,
    State,
    Write,
    lr_of,
    put,
    write,
)
from selftune.tensor_list import Scalar, TensorList


def new_averaging() -> State:
    # beta is that of the last step, from which y was computed.
    return {"step": 0, "lr_max": 0.0, "weight_sum": 0.0, "beta": 1.0}


def warmed_up_lr(group: Group, step: int) -> float:
    """The lr of a parameter's step number `step` (from 1 on) under linear warm-up."""
    return lr_of(group) * min(1.0, step / max(1, group["warmup_steps"]))


def advance_averaging(
    group: Group, beta: float, lr: float, counts: State, averaging_constant: float | None = None
) -> State:
    """The numbers for `move` in the step `counts["step"]`."""
    c = own_share(group, lr, counts)
    if averaging_constant is not None:
        c = min(1.0, c * (1 - beta) * averaging_constant)
    return {"lr": lr, **interpolations(beta, c, counts)}


def own_share(group: Group, lr: float, counts: State) -> float:
    """c, the weight of the present step in the average over a parameter's own steps."""
    counts["lr_max"] = max(counts["lr_max"], lr)
    # The largest lr so far, not the present one: if a scheduler decays the lr, z slows down, but
    # its last iterates keep their weight in x.
    weight = counts["step"] ** group["r"] * counts["lr_max"] ** 2
    counts["weight_sum"] += weight
    return weight / counts["weight_sum"] if weight else 0.0


def interpolations(beta: float, c: Scalar, counts: State) -> dict[str, Scalar]:
    """The coefficients with which `move` updates y and z, from c, the weight of the new z in x."""
    # The present y was computed with the last step's beta, the new y uses this step's.
    last_beta = counts["beta"]
    counts["beta"] = beta
    return {
        "toward_x": 1 - 1 / last_beta,
        "toward_z": 1 - beta / last_beta * (1 - c),
        "step_of_y": 1 - beta * (1 - c),
    }


def learn_share(groups: list[Group], step_size: Tensor, warmup: int = 0) -> None:
    """Update the averaging weight for the coming step, whose size is learnt.

    As in `own_share` a step's weight is (its number)^r * (largest step size so far)^2. `window` is
    the sum of all weights divided by the newest, so that c = 1 / window. The first `warmup` steps
    do not count.
    """
    first = groups[0]
    k = first["k"] + 1
    largest = torch.maximum(first["largest_step"], step_size)
    # While the largest step size was 0 this is inf, and the window 1.
    growth = largest.clamp(min=torch.finfo(torch.float32).tiny) / first["largest_step"]
    window = 1 + first["window"] * (k > warmup + 1) * ((k - 1) / k) ** first["r"] / growth**2
    write(groups, k=k, largest_step=largest, window=window)


def learnt_share(group: Group, lr: float, counts: State) -> Tensor:
    """c of a parameter, after `learn_share`; updates the counts of its own average.

    This is the larger of 1 / window and the parameter's `own_share`. The latter is larger only if
    the parameter got its first gradient late: its average then contains few steps.
    """
    return (1 / group["window"]).clamp(min=own_share(group, lr, counts))


LEARNT_SHARE = ("k", "largest_step", "window")


def move(b: Bucket, direction: TensorList) -> None:
    # z <- z - lr u,  x <- (1 - c) x + c z,  y <- (1 - beta) z + beta x, with x eliminated
    b.param.lerp_(b.z, b.toward_z).add_(direction, alpha=-b.lr * b.step_of_y)
    b.z.add_(direction, alpha=-b.lr)


def to_x(b: Bucket) -> tuple[()]:
    b.param.lerp_(b.z, 1 - 1 / b.beta)
    return ()


def to_y(b: Bucket) -> tuple[()]:
    b.param.lerp_(b.z, 1 - b.beta)
    return ()


def restart_z(p: Tensor, state: State, group: Group, write: Write) -> None:
    """Set z, and so x and y, to values written from outside."""
    put(state["z"], p, write.where)


def check_averaging(group: Group, beta: float, name: str) -> None:
    """Check the options that all Schedule-Free methods share; `name` is their option for beta."""
    require(0 < beta <= 1, name, beta, "(0, 1]")
    require_nonnegative(group, "lr", "weight_decay", "r")
