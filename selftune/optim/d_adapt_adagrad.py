"""AdaGrad with D-Adaptation, for dense and sparse gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.distance import (
    check_distance,
    finite_or,
    grown,
    largest_lr,
    require_alike,
    restart_at,
)
from selftune.optim.engine.options import COUPLED, require, require_nonnegative
from selftune.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    State,
    clear,
    lr_of,
    write,
)


class DAdaptAdaGrad(Optimizer):
    """AdaGrad with D-Adaptation, which learns the step size, also from sparse gradients.

        optimizer = DAdaptAdaGrad(embedding.parameters())  # leave lr at 1

    Defazio & Mishchenko, Learning-Rate-Free Learning by D-Adaptation, 2023, its AdaGrad form as
    in the dadaptation package. https://arxiv.org/abs/2301.07733

    s is the sum of the scaled gradients d lr g, each with its group's lr, and alpha the sum of the
    squared gradients; z = p0 - s / (sqrt(alpha) + eps). The estimate of d is the sum over all
    elements of s^2 / sqrt(alpha), less that of (d lr g)^2 / sqrt(alpha) over all steps, divided by
    the 1-norm of s. A step updates these sums by what it changes, so that a sparse step only
    computes on the rows that its gradients touch.

    lr: multiplies d; leave it at 1 and let a schedule multiply it. A group with r times the
        largest lr is treated as if its parameters were measured in units r times larger.
    momentum: weight of the old parameters in x <- momentum x + (1 - momentum) z.
    weight_decay: an L2 term, added to the gradient. With sparse gradients, weight decay and
        momentum act only on the rows that a gradient touches.
    d0, growth_rate: the initial d, and the largest factor by which it grows in a step; the same in
        all groups.
    Defaults are those of the dadaptation package, which starts alpha at 1e-6 and supports neither
    momentum nor weight decay with sparse gradients. Its authors advise to use Adam where possible,
    as this method adapts more slowly. State: p0, s and alpha, 3 words per parameter; in the groups
    d, its numerator and the 1-norm of s, 0-d tensors on the device.
    """

    takes_sparse = True
    finds_step_size = True
    always = COUPLED

    learns = ("d", "d_numerator", "s_l1")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.0,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "eps": eps,
            "weight_decay": weight_decay,
            "d0": d0,
            "growth_rate": growth_rate,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        # At the first step s / (sqrt(alpha) + eps) would be 0 / 0.
        require(0 < group["eps"] < math.inf, "eps", group["eps"], "(0, inf)")
        require(0 <= group["momentum"] < 1, "momentum", group["momentum"], "[0, 1)")
        require_nonnegative(group, "lr", "weight_decay")
        check_distance(group)
        require_alike(self.param_groups[0], group, "d0", "growth_rate")

    def effective_lr(self, group: Group) -> Tensor:
        return group["d"] * lr_of(group)

    def init_state(self, p: Tensor, group: Group) -> State:
        # The package starts alpha at 1e-6, which changes the steps of a loss of small scale.
        return {"p0": p.detach().clone(), "s": torch.zeros_like(p), "alpha": torch.zeros_like(p)}

    def advance(self, group: Group, counts: State) -> State:
        lr_max = largest_lr(self.param_groups)
        return {"lr": lr_max, "ratio": lr_of(group) / lr_max}

    restart = staticmethod(restart_at)

    def forget(self) -> None:
        clear(self.param_groups, ("d_numerator", "s_l1"))

    @staticmethod
    def update(b: Bucket) -> tuple[Tensor, Tensor]:
        eps, p, s, momentum = b.group["eps"], b.param, b.s, b.group["momentum"]
        grad = b.grad.add(p, alpha=b.group["weight_decay"])
        before = s.dot(s.div(b.alpha.sqrt().add_(eps).without_zeros_(eps))), s.norm(1)
        b.alpha.addcmul_(grad, grad)
        root = b.alpha.sqrt().add_(eps).without_zeros_(eps)
        grad.mul_(b.group["d"] * b.lr)
        grad_sq = grad.dot(grad.div(root)) * b.ratio
        s.add_(grad, alpha=b.ratio)
        step = s.div(root)
        numerator = (s.dot(step) - before[0]) / b.ratio - grad_sq
        p.lerp_(b.p0.sub(step), 1 - momentum)
        return numerator, s.norm(1) - before[1]

    @staticmethod
    def rest(b: Bucket) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros_like(b.group["d"])
        return nothing, nothing

    def estimate(self, *sums: Tensor) -> None:
        group = self.param_groups[0]
        d_numerator = finite_or(group["d_numerator"] + sums[0], group["d_numerator"])
        s_l1 = finite_or(group["s_l1"] + sums[1], group["s_l1"])
        d = grown(group["d"], d_numerator / s_l1, group["growth_rate"])
        write(self.param_groups, d=d, d_numerator=d_numerator, s_l1=s_l1)
