"""Shared by the Schedule-Free methods: the sequences x, y and z, and the average's weights.

The sequences, in the paper's letters:
  z  the fast iterate, which takes the gradient steps
  x  the weighted average of z, where the model is judged
  y  = (1 - beta) z + beta x, where gradients are taken; this is what `param` holds in training
x is not stored: it is y + (1 - 1/beta) (z - y).
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
    # beta: that of the last step, with which y was made.
    return {"step": 0, "lr_max": 0.0, "weight_sum": 0.0, "beta": 1.0}


def warmed_up_lr(group: Group, step: int) -> float:
    """The lr of a parameter's own step, the first being 1, after linear warm-up."""
    return lr_of(group) * min(1.0, step / max(1, group["warmup_steps"]))


def advance_averaging(
    group: Group, beta: float, lr: float, counts: State, averaging_constant: float | None = None
) -> State:
    """The numbers for `move` of the step that `counts` is at."""
    c = own_share(group, lr, counts)
    if averaging_constant is not None:
        c = min(1.0, c * (1 - beta) * averaging_constant)
    return {"lr": lr, **interpolations(beta, c, counts)}


def own_share(group: Group, lr: float, counts: State) -> float:
    """c, the weight of the step that `counts` is at among a parameter's own steps."""
    counts["lr_max"] = max(counts["lr_max"], lr)
    # The largest lr so far, not the present one: a decay from outside then slows z down
    # without making its last iterates count for little in x.
    weight = counts["step"] ** group["r"] * counts["lr_max"] ** 2
    counts["weight_sum"] += weight
    return weight / counts["weight_sum"] if weight else 0.0


def interpolations(beta: float, c: Scalar, counts: State) -> dict[str, Scalar]:
    """The numbers by which y and z move, from c, the weight of the new z in x."""
    # y is read with the last step's beta and written with this one's.
    last_beta = counts["beta"]
    counts["beta"] = beta
    return {
        "toward_x": 1 - 1 / last_beta,
        "toward_z": 1 - beta / last_beta * (1 - c),
        "step_of_y": 1 - beta * (1 - c),
    }


def learn_share(groups: list[Group], step_size: Tensor, warmup: int = 0) -> None:
    """Before a step of a size that is estimated: its weight among all steps.

    As in `own_share` a step's weight is (its number)^r * (largest step size so far)^2. `window` is
    the sum of the weights in units of the newest, so that c = 1 / window. The first `warmup` steps
    are forgotten.
    """
    first = groups[0]
    k = first["k"] + 1
    largest = torch.maximum(first["largest_step"], step_size)
    # x / 0 = inf while the largest step was 0: the window is then 1.
    growth = largest.clamp(min=torch.finfo(torch.float32).tiny) / first["largest_step"]
    window = 1 + first["window"] * (k > warmup + 1) * ((k - 1) / k) ** first["r"] / growth**2
    write(groups, k=k, largest_step=largest, window=window)


def learnt_share(group: Group, lr: float, counts: State) -> Tensor:
    """c of a parameter, after `learn_share`; moves the counts of its own average.

    The parameter's own share is the smaller one, as learnt step sizes hardly ever shrink, unless
    its first gradient was late: then all of its average is young.
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
    """Set z, and so x and y, to what someone else has written."""
    put(state["z"], p, write.where)


def check_averaging(group: Group, beta: float, name: str) -> None:
    """Check the options that all of them have; `name` is what beta is called."""
    require(0 < beta <= 1, name, beta, "(0, 1]")
    require_nonnegative(group, "lr", "weight_decay", "r")
