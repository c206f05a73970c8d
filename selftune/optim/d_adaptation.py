"""SGD and Adam with D-Adaptation: step sizes from a lower bound on the distance to a solution."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.adamw import check_adam
from selftune.optim.distance import (
    adam_correction,
    check_distance,
    finite_or,
    grown,
    largest_lr,
    require_alike,
    restart_at,
)
from selftune.optim.engine.options import COUPLED, DECOUPLED, require, require_nonnegative
from selftune.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    State,
    clear,
    lr_of,
    write,
)


class DAdaptSGD(Optimizer):
    """SGD with D-Adaptation, which learns the step size.

        optimizer = DAdaptSGD(model.parameters())  # leave lr at 1
        scheduler = ScheduleLR(optimizer, cosine(num_steps))  # multiplies the learnt step size

    Defazio & Mishchenko, Learning-Rate-Free Learning by D-Adaptation, 2023, Algorithm 4.
    https://arxiv.org/abs/2301.07733

    d is a lower bound on the distance from the initial weights p0 to a solution. s is the sum of
    the scaled gradients d lr g / |g_0|, each with its group's lr, and z = p0 - s.

    lr: multiplies d; leave it at 1 and let a schedule multiply it. A group with r times the
        largest lr is treated as if its parameters were measured in units sqrt(r) times larger.
    momentum: weight of the old parameters in x <- momentum x + (1 - momentum) z.
    weight_decay: an L2 term, added to the gradient.
    d0, growth_rate: the initial d, and the largest factor by which it grows in a step; the same in
        all groups.
    Defaults are those of the dadaptation package. State: p0 and s, 2 words per parameter
    (z is not stored); in the groups d, its numerator and |g_0|, 0-d tensors on the device.
    """

    finds_step_size = True
    always = COUPLED
    learns = ("d", "d_numerator", "g0_norm")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "d0": d0,
            "growth_rate": growth_rate,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        require(0 <= group["momentum"] < 1, "momentum", group["momentum"], "[0, 1)")
        require_nonnegative(group, "lr", "weight_decay")
        check_distance(group)
        require_alike(self.param_groups[0], group, "d0", "growth_rate")

    def effective_lr(self, group: Group) -> Tensor:
        d, g0_norm = group["d"], group["g0_norm"]
        return torch.where(g0_norm > 0, d * lr_of(group) / g0_norm, 0.0)

    def init_state(self, p: Tensor, group: Group) -> State:
        return {"p0": p.detach().clone(), "s": torch.zeros_like(p)}

    def advance(self, group: Group, counts: State) -> State:
        lr_max = largest_lr(self.param_groups)
        return {"lr": lr_max, "ratio": lr_of(group) / lr_max}

    restart = staticmethod(restart_at)

    def forget(self) -> None:
        clear(self.param_groups, ("d_numerator",))

    @staticmethod
    def measure(b: Bucket) -> tuple[Tensor]:
        return (b.grad.norm() ** 2 * b.group["lr"],)

    def prepare(self, *sums: Tensor) -> None:
        (lr_grad_sq,) = sums
        g0_norm = self.param_groups[0]["g0_norm"]
        grad_norm = (lr_grad_sq / largest_lr(self.param_groups)).sqrt()
        # The norm of the first non-zero gradient, without the L2 term, as in the package.
        g0_norm = torch.where(g0_norm > 0, g0_norm, grad_norm)
        write(self.param_groups, g0_norm=g0_norm)

    @staticmethod
    def update(b: Bucket) -> tuple[Tensor, Tensor]:
        d, g0_norm, p, momentum = b.group["d"], b.group["g0_norm"], b.param, b.group["momentum"]
        dlr = torch.where(g0_norm > 0, d * b.lr / g0_norm, 0.0)
        grad = b.grad.add(p, alpha=b.group["weight_decay"]).mul_(dlr)
        numerator = grad.dot(b.s)
        b.s.add_(grad, alpha=b.ratio)
        z = b.p0.sub(b.s)
        p.lerp_(z, 1 - momentum)
        return numerator, b.s.norm() ** 2 / b.ratio

    @staticmethod
    def rest(b: Bucket) -> tuple[Tensor, Tensor]:
        s_sq = b.s.norm() ** 2 / b.ratio
        return torch.zeros_like(s_sq), s_sq

    def estimate(self, *sums: Tensor) -> None:
        numerator, s_sq = sums
        group = self.param_groups[0]
        d_numerator = finite_or(group["d_numerator"] + numerator, group["d_numerator"])
        d = grown(group["d"], 2 * d_numerator / s_sq.sqrt(), group["growth_rate"])
        write(self.param_groups, d=d, d_numerator=d_numerator)


class DAdaptAdam(Optimizer):
    """Adam with D-Adaptation, which learns the step size.

        optimizer = DAdaptAdam(model.parameters())  # leave lr at 1
        scheduler = ScheduleLR(optimizer, cosine(num_steps))  # multiplies the learnt step size

    Defazio & Mishchenko, Learning-Rate-Free Learning by D-Adaptation, 2023, Algorithm 5.
    https://arxiv.org/abs/2301.07733

    s is a moving average of the gradients times delta = d lr. The estimate of d is the sum of
    delta <g, s / sqrt(v)> over the 1-norm of s, as in version 3 of the dadaptation package.

    lr: multiplies d; leave it at 1 and let a schedule multiply it. A group with r times the
        largest lr is treated as if its parameters were measured in units r times larger.
    weight_decay: decoupled, multiplied by d * lr.
    use_bias_correction: Adam's, in the step and in d's statistics.
    d0, growth_rate: the initial d, and the largest factor by which it grows in a step. These and
        betas[1] have to be the same in all groups.
    Defaults are those of the dadaptation package. State: s, `exp_avg`, `exp_avg_sq`, 3 words per
    parameter; in the groups d and its numerator, 0-d tensors on the device.
    """

    finds_step_size = True
    always = DECOUPLED
    learns = ("d", "d_numerator")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "use_bias_correction": use_bias_correction,
            "d0": d0,
            "growth_rate": growth_rate,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        # At the first step s / (sqrt(v) + eps) would be 0 / 0.
        require(0 < group["eps"] < math.inf, "eps", group["eps"], "(0, inf)")
        check_adam(group)
        check_distance(group)
        first, own = ({**g, "betas[1]": g["betas"][1]} for g in (self.param_groups[0], group))
        require_alike(first, own, "d0", "growth_rate", "betas[1]")

    def effective_lr(self, group: Group) -> Tensor:
        steps = self.most_steps(group)
        return group["d"] * (lr_of(group) * adam_correction(group, steps))

    def init_state(self, p: Tensor, group: Group) -> State:
        zeros = torch.zeros_like
        return {"step": 0, "s": zeros(p), "exp_avg": zeros(p), "exp_avg_sq": zeros(p)}

    def advance(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        lr_max = largest_lr(self.param_groups)
        correction = adam_correction(group, counts["step"])
        beta3 = math.sqrt(group["betas"][1])
        return {"lr": lr_max * correction, "ratio": lr_of(group) / lr_max, "beta3": beta3}

    @staticmethod
    def update(b: Bucket) -> tuple[Tensor, Tensor]:
        beta1, beta2 = b.group["betas"]
        eps, p = b.group["eps"], b.param
        dlr = b.group["d"] * b.lr
        grad = b.grad.mul(dlr)
        numerator = grad.dot(b.s.div(b.exp_avg_sq.sqrt().add_(eps).without_zeros_(eps))) * b.ratio
        b.exp_avg.mul_(beta1).add_(grad, alpha=b.ratio * (1 - beta1))
        b.exp_avg_sq.mul_(beta2).addcmul_(b.grad, b.grad, value=1 - beta2)
        b.s.lerp_(grad, 1 - b.beta3)
        p.mul_(1 - dlr * (b.ratio * b.group["weight_decay"]))
        p.addcdiv_(b.exp_avg, b.exp_avg_sq.sqrt().add_(eps).without_zeros_(eps), value=-1)
        return numerator, b.s.norm(1) * b.ratio

    @staticmethod
    def rest(b: Bucket) -> tuple[Tensor, Tensor]:
        s_l1 = b.s.mul_(b.beta3).norm(1) * b.ratio
        return torch.zeros_like(s_l1), s_l1

    def estimate(self, *sums: Tensor) -> None:
        numerator, s_l1 = sums
        group = self.param_groups[0]
        beta3 = math.sqrt(group["betas"][1])
        before = group["d_numerator"]
        d_numerator = finite_or(beta3 * before + (1 - beta3) * numerator, before)
        d = grown(group["d"], d_numerator / ((1 - beta3) * s_l1), group["growth_rate"])
        write(self.param_groups, d=d, d_numerator=d_numerator)
