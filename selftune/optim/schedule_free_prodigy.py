"""Schedule-Free Prodigy: averaging in place of a schedule, and a learnt step size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.distance import (
    check_distance,
    check_sample,
    largest_lr,
    learn_prodigys_distance,
    require_alike,
    restart_sample,
    sliced_start,
)
from selftune.optim.engine.options import DECOUPLED, require, require_nonnegative
from selftune.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    State,
    Write,
    clear,
    lr_of,
)
from selftune.optim.sequences import (
    LEARNT_SHARE,
    check_averaging,
    interpolations,
    learn_share,
    learnt_share,
    move,
    new_averaging,
    restart_z,
    to_x,
    to_y,
)


class ScheduleFreeProdigy(Optimizer):
    """Schedule-Free Prodigy, which needs neither a learning rate nor a schedule.

        optimizer = ScheduleFreeProdigy(model.parameters())
        attach(model, optimizer)

    z takes the steps; x is the average of all z, where the model is evaluated;
    y = (1 - beta1) z + beta1 x is where gradients are taken, and what the parameters hold in
    training. The parameters have to hold x whenever the model is evaluated, saved or exported:
    `attach` takes care of it; by hand, use `evaluation_weights()`, or `eval()` and `train()`.

    Mishchenko & Defazio, Prodigy, 2024, Algorithm 4, https://arxiv.org/abs/2306.06101, as the
    steps of z in Defazio et al., The Road Less Scheduled, 2024, Algorithm 1,
    https://arxiv.org/abs/2405.15682; combined as in its authors' submission to AlgoPerf.

    Gradients are taken at y, and z takes the steps d lr d g / (sqrt(v) + d eps), where v is the
    second moment of d g. The estimate of d is the sum of d^2 lr <g, p0 - z> over the 1-norm of s,
    the sum of d^2 lr g. The interpolation beta1 takes the place of Prodigy's momentum.

    lr: multiplies d; leave it at 1, or warm it up. Groups may differ, as in `Prodigy`.
    weight_decay: decoupled, multiplied by d * lr, taken at y.
    r: the averaging weight of a step is (its number)^r * (largest d lr so far)^2. The submission
        leaves out the second factor, so that early steps count fully although d was still small.
    safeguard_warmup, d0, d_coef, growth_rate, slice_p: as in `Prodigy`.
    r, betas[1], d0, d_coef and growth_rate have to be the same in all groups.
    v is corrected for its bias, as in `ScheduleFreeAdamW`; in the submission it is not.
    Defaults are those of the submission. State: z, p0, s and `exp_avg_sq` (v), 4 words per
    parameter (2 + 2 / slice_p); d and the averaging weights in the groups, 0-d tensors on the
    device.
    """

    finds_step_size = True
    always = DECOUPLED | {"weight_lr_power": 2}
    learns = ("d", "d_max", "d_numerator", *LEARNT_SHARE)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.9955),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        r: float = 0.75,
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
            "eps": eps,
            "weight_decay": weight_decay,
            "r": r,
            "safeguard_warmup": safeguard_warmup,
            "d0": d0,
            "d_coef": d_coef,
            "growth_rate": growth_rate,
            "slice_p": slice_p,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        (beta1, beta2), d_coef = group["betas"], group["d_coef"]
        check_averaging(group, beta1, "betas[0]")
        require(0 <= beta2 < 1, "betas[1]", beta2, "[0, 1)")
        require(0 < d_coef < math.inf, "d_coef", d_coef, "(0, inf)")
        check_sample(group)
        require_nonnegative(group, "eps")
        check_distance(group)
        first, own = ({**g, "betas[1]": g["betas"][1]} for g in (self.param_groups[0], group))
        require_alike(first, own, "d0", "d_coef", "growth_rate", "betas[1]", "r")

    def effective_lr(self, group: Group) -> Tensor:
        return group["d"] * lr_of(group)

    def init_state(self, p: Tensor, group: Group) -> State:
        z, exp_avg_sq = p.detach().clone(), torch.zeros_like(p)
        start = sliced_start(p, group["slice_p"])
        return {**new_averaging(), "z": z, **start, "exp_avg_sq": exp_avg_sq}

    def prepare(self, *sums: Tensor) -> None:
        learn_share(self.param_groups, self.param_groups[0]["d"] * largest_lr(self.param_groups))

    def advance(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        beta1, beta2 = group["betas"]
        lr_max = largest_lr(self.param_groups)
        c = learnt_share(group, lr_max, counts)
        return {
            **interpolations(beta1, c, counts),
            "lr": group["d"] * lr_of(group),
            "lr_max": lr_max,
            "ratio": lr_of(group) / lr_max,
            "beta3": math.sqrt(beta2),
            "bias_correction": 1 - beta2 ** counts["step"],
        }

    @staticmethod
    def update(b: Bucket) -> tuple[Tensor, Tensor]:
        _, beta2 = b.group["betas"]
        d, d0, y, z = b.group["d"], b.group["d0"], b.param, b.z
        slice_p = b.group["slice_p"]
        grad = b.grad.mul(d)
        numerator = grad.every(slice_p).dot(b.p0.sub(z.every(slice_p))) * (d * (b.lr_max / d0))
        b.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        in_s = 1 if b.group["safeguard_warmup"] else b.lr_max
        b.s.mul_(b.beta3).add_(grad.every(slice_p), alpha=d * (in_s / d0))
        denominator = b.s.norm(1) * b.ratio
        root = b.exp_avg_sq.div(b.bias_correction).sqrt_().add_(d * b.group["eps"])
        root.without_zeros_(b.group["eps"])
        move(b, grad.div_(root).add_(y, alpha=b.group["weight_decay"]))
        return numerator, denominator

    @staticmethod
    def rest(b: Bucket) -> tuple[Tensor, Tensor]:
        denominator = b.s.mul_(b.beta3).norm(1) * b.ratio
        return torch.zeros_like(denominator), denominator

    def estimate(self, *sums: Tensor) -> None:
        learn_prodigys_distance(
            self.param_groups, math.sqrt(self.param_groups[0]["betas"][1]), *sums
        )

    to_evaluation = staticmethod(to_x)
    to_training = staticmethod(to_y)

    @staticmethod
    def restart(p: Tensor, state: State, group: Group, write: Write) -> None:
        restart_z(p, state, group, write)
        restart_sample(p, state, group, write)

    def forget(self) -> None:
        clear(self.param_groups, ("d_numerator",))
