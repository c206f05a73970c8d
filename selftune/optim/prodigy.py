"""Prodigy: Adam that learns its step size from an estimate of the distance to a solution."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.adamw import check_adam
from selftune.optim.distance import (
    adam_correction,
    check_distance,
    check_sample,
    largest_lr,
    learn_prodigys_distance,
    require_alike,
    restart_sample,
    sliced_start,
)
from selftune.optim.engine.options import DECOUPLED, require
from selftune.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    State,
    clear,
    lr_of,
)


class Prodigy(Optimizer):
    """Prodigy in its Adam form: Adam with a learnt step size.

        optimizer = Prodigy(model.parameters())  # leave lr at 1
        scheduler = ScheduleLR(optimizer, cosine(num_steps))  # multiplies the learnt step size

    Mishchenko & Defazio, 2024, Algorithm 4. https://arxiv.org/abs/2306.06101

    d, a lower bound on the distance from the initial weights p0 to a solution, is learnt from
    all gradients; s accumulates gradients. A step is d * lr * m / (sqrt(v) + d eps), where
    m and v are Adam's moments of d * gradient.

    lr: multiplies d; leave it at 1 and let a schedule multiply it. If parameter groups have
        different lr, the largest scales d, and each group steps in proportion to its own.
    beta3: decay of d's numerator and of s; sqrt(betas[1]) if None.
    weight_decay: decoupled, multiplied by d * lr.
    use_bias_correction: Adam's, in the step and in d's statistics.
    safeguard_warmup: leave lr out of s, so that a warm-up does not inflate d.
    d0: the initial d.
    d_coef: multiplies the estimate of d.
    growth_rate: the largest factor by which d grows in a step (the first increase from d0 is not
        limited). d0, d_coef, growth_rate and beta3 have to be the same in all groups.
    slice_p: learn d from every slice_p-th element of each tensor only; 11 saves nearly half of
        the memory.
    Defaults are those of the prodigyopt package. State: p0, s, `exp_avg`, `exp_avg_sq`, 4 words
    per parameter (2 + 2 / slice_p); in the groups d, `d_max` and `d_numerator`, 0-d tensors on the
    device.
    """

    finds_step_size = True
    always = DECOUPLED | {"layer_scale": 1}
    learns = ("d", "d_max", "d_numerator")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
        slice_p: int = 1,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "beta3": beta3,
            "eps": eps,
            "weight_decay": weight_decay,
            "use_bias_correction": use_bias_correction,
            "safeguard_warmup": safeguard_warmup,
            "d0": d0,
            "d_coef": d_coef,
            "growth_rate": growth_rate,
            "slice_p": slice_p,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        beta3, d_coef = group["beta3"], group["d_coef"]
        require(beta3 is None or 0 <= beta3 < 1, "beta3", beta3, "[0, 1)")
        require(0 < d_coef < math.inf, "d_coef", d_coef, "(0, inf)")
        check_adam(group)
        check_sample(group)
        check_distance(group)
        first, own = (
            {**g, "beta3, or sqrt(betas[1])": _beta3(g)} for g in (self.param_groups[0], group)
        )
        require_alike(first, own, "d0", "d_coef", "growth_rate", "beta3, or sqrt(betas[1])")

    def effective_lr(self, group: Group) -> Tensor:
        steps = self.most_steps(group)
        return group["d"] * (lr_of(group) * adam_correction(group, steps))

    def init_state(self, p: Tensor, group: Group) -> State:
        exp_avg, exp_avg_sq = torch.zeros_like(p), torch.zeros_like(p)
        start = sliced_start(p, group["slice_p"])
        return {"step": 0, **start, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}

    def advance(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        lr_max = largest_lr(self.param_groups)
        correction = adam_correction(group, counts["step"])
        ratio = lr_of(group) / lr_max
        return {"lr": lr_max * correction, "ratio": ratio, "beta3": _beta3(group)}

    restart = staticmethod(restart_sample)

    def forget(self) -> None:
        clear(self.param_groups, ("d_numerator",))

    @staticmethod
    def update(b: Bucket) -> tuple[Tensor, Tensor]:
        beta1, beta2 = b.group["betas"]
        d, d0, p = b.group["d"], b.group["d0"], b.param
        step_size = d * (b.lr * b.ratio)
        slice_p = b.group["slice_p"]
        grad = b.grad.mul(d)
        # A group's lr ratio changes the units of its parameters: the inner product stays the same,
        # the 1-norm is multiplied by it. d / d0 instead of d keeps small numbers from underflow.
        numerator = grad.every(slice_p).dot(b.p0.sub(p.every(slice_p))) * (d * (b.lr / d0))
        b.exp_avg.lerp_(grad, 1 - beta1)
        b.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        in_s = 1 if b.group["safeguard_warmup"] else b.lr
        b.s.mul_(b.beta3).add_(grad.every(slice_p), alpha=d * (in_s / d0))
        denominator = b.s.norm(1) * b.ratio
        # eps is multiplied by this step's d, as in the paper; prodigyopt uses the next d.
        root = b.exp_avg_sq.sqrt().add_(d * b.group["eps"]).without_zeros_(b.group["eps"])
        direction = b.exp_avg.div(root)
        p.mul_(1 - step_size * b.group["weight_decay"]).add_(direction, alpha=-step_size)
        return numerator, denominator

    @staticmethod
    def rest(b: Bucket) -> tuple[Tensor, Tensor]:
        denominator = b.s.mul_(b.beta3).norm(1) * b.ratio
        return torch.zeros_like(denominator), denominator

    def estimate(self, *sums: Tensor) -> None:
        learn_prodigys_distance(self.param_groups, _beta3(self.param_groups[0]), *sums)


def _beta3(group: Group) -> float:
    return math.sqrt(group["betas"][1]) if group["beta3"] is None else group["beta3"]
