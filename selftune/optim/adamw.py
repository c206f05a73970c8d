"""AdamW and NAdamW, the baselines; also the simplest examples of an update rule."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.engine.options import DECOUPLED, require, require_nonnegative
from selftune.optim.optimizer import Bucket, Group, Optimizer, State, lr_of


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

        optimizer = AdamW(model.parameters(), lr=1e-3)
        scheduler = ScheduleLR(optimizer, cosine(num_steps).with_warmup(0.02))

    Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2019, Algorithm 2.
    https://arxiv.org/abs/1711.05101

    Defaults and results are those of `torch.optim.AdamW`. State: `exp_avg` (m) and `exp_avg_sq`
    (v), 2 words per parameter.
    """

    always = DECOUPLED

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        compile: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "compile": compile})

    def check(self, group: Group) -> None:
        check_adam(group)

    def init_state(self, p: Tensor, group: Group) -> State:
        return adam_state(p)

    def advance(self, group: Group, counts: State) -> State:
        return adam_numbers(group, counts)

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        beta1, beta2 = b.group["betas"]
        eps, weight_decay = b.group["eps"], b.group["weight_decay"]
        b.exp_avg.lerp_(b.grad, 1 - beta1)
        b.exp_avg_sq.mul_(beta2).addcmul_(b.grad, b.grad, value=1 - beta2)
        denominator = b.exp_avg_sq.div(b.bias_correction2).sqrt_().add_(eps).without_zeros_(eps)
        b.param.mul_(1 - b.lr * weight_decay)
        b.param.addcdiv_(b.exp_avg, denominator, value=-b.lr / b.bias_correction1)
        return ()


class NAdamW(Optimizer):
    """AdamW with Nesterov momentum: AlgoPerf's baseline.

        optimizer = NAdamW(model.parameters())
        scheduler = ScheduleLR(optimizer, cosine(num_steps).with_warmup(0.02))

    Dozat, Incorporating Nesterov Momentum into Adam, 2016, in the form of Table 1 of
    Choi et al., On Empirical Comparisons of Optimizers, 2019. https://arxiv.org/abs/1910.05446

    The step uses (beta1 m + (1 - beta1) g) / (1 - beta1^t) in place of Adam's first moment, with m
    after its update; `torch.optim.NAdam` has another bias correction and a momentum schedule.
    Defaults are the hyperparameters of AlgoPerf v0.5's self-tuning baseline, the same for all of
    its workloads and chosen for 2 % warm-up and cosine decay. State: `exp_avg` (m) and
    `exp_avg_sq` (v), 2 words per parameter.
    """

    always = DECOUPLED

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.0017486387539278373,
        betas: tuple[float, float] = (0.93266073836, 0.9955159689799007),
        eps: float = 1e-8,
        weight_decay: float = 0.08121616522670176,
        compile: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "compile": compile})

    def check(self, group: Group) -> None:
        check_adam(group)

    def init_state(self, p: Tensor, group: Group) -> State:
        return adam_state(p)

    def advance(self, group: Group, counts: State) -> State:
        return adam_numbers(group, counts)

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        beta1, beta2 = b.group["betas"]
        eps, weight_decay = b.group["eps"], b.group["weight_decay"]
        b.exp_avg.lerp_(b.grad, 1 - beta1)
        b.exp_avg_sq.mul_(beta2).addcmul_(b.grad, b.grad, value=1 - beta2)
        denominator = b.exp_avg_sq.div(b.bias_correction2).sqrt_().add_(eps).without_zeros_(eps)
        ahead = b.exp_avg.lerp(b.grad, 1 - beta1)
        b.param.mul_(1 - b.lr * weight_decay)
        b.param.addcdiv_(ahead, denominator, value=-b.lr / b.bias_correction1)
        return ()


def adam_state(p: Tensor) -> State:
    return {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}


def adam_numbers(group: Group, counts: State) -> State:
    counts["step"] += 1
    beta1, beta2 = group["betas"]
    return {
        "lr": lr_of(group),
        "bias_correction1": 1 - beta1 ** counts["step"],
        "bias_correction2": 1 - beta2 ** counts["step"],
    }


def check_adam(group: Group) -> None:
    beta1, beta2 = group["betas"]
    require_nonnegative(group, "lr", "eps", "weight_decay")
    require(0 <= beta1 < 1, "betas[0]", beta1, "[0, 1)")
    require(0 <= beta2 < 1, "betas[1]", beta2, "[0, 1)")
