"""ScheduleFree+: Schedule-Free AdamW with momentum, and step sizes computed from the loss."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.adamw import check_adam
from selftune.optim.distance import finite_or, largest_lr, require_alike
from selftune.optim.engine.options import DECOUPLED, require, require_steps
from selftune.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    State,
    lr_of,
    write,
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


class ScheduleFreePlus(Optimizer):
    """ScheduleFree+: Schedule-Free AdamC with momentum and Polyak's step size.

        optimizer = ScheduleFreePlus(model.parameters())
        attach(model, optimizer)
        ...
        optimizer.step(loss=loss)  # or step(closure)

    It needs no learning rate, but it needs the loss in each step. z takes the steps; x is the
    average of all z, where the model is evaluated; y = (1 - beta) z + beta x is where gradients are
    taken, and what the parameters hold in training. The parameters have to hold x whenever the
    model is evaluated, saved or exported: `attach` takes care of it; by hand, use
    `evaluation_weights()`, or `eval()` and `train()`.

    Defazio, ScheduleFree+, 2026. https://arxiv.org/abs/2605.19095

    The step size is gamma = lr max(0, f(y) + <g, z - y>) / e: the loss at z, to first order around
    y, over e, the gradient's 1-norm times sqrt(pi / 2). z takes Adam's steps of that size. The
    loss has to be the one whose gradients are taken, unscaled, and its minimum has to be 0. If
    ranks train on different data, pass the mean of their losses. If ranks shard the parameters
    (FSDP2 without replicas, `partitioned`), the optimizer takes the mean itself.

    lr: multiplies the step size; leave it at 1, or warm it up.
    betas: Adam's.
    beta, beta_max, anneal_steps: the interpolation between z and x, in (0, 1]. Over the first
        `anneal_steps` steps it moves from beta to beta_max, linearly in log(1 - beta).
    weight_decay: subtracts gamma^2 * weight_decay * y from z (AdamC); 20 to 50 where AdamW would
        have 0.1.
    r: the averaging weight of a step is (its number)^r * (largest step size so far)^2; 2 for
        long runs. Averaging begins after `c_warmup` steps: once or twice the warm-up of lr.
    polyak_beta: decay of an exponential moving average of e, which takes the place of e.
    max_step_size: an upper bound on gamma; inf for none. It, polyak_beta, r and c_warmup have to be
        the same in all groups.

    Defaults are those of the authors' AdamCScheduleFreePlusPaper. Deviations from it: their gamma
    has no bound, so that steps grow without limit if the loss stays high while gradients become
    small; the bound here is four times the lr of `ScheduleFreeAdamW`. They compute <g, z - y> as
    beta <g, z - x>, which is equal unless beta has changed, and also store x and y. Here a
    parameter that gets its first gradient late starts its own average.
    State: z, `exp_avg` and `exp_avg_sq`, 3 words per parameter; in the groups `step_size`,
    `grad_l1` (e) and the averaging weights, 0-d tensors on the device.
    """

    takes_loss = True
    finds_step_size = True
    always = DECOUPLED
    learns = ("step_size", "grad_l1", *LEARNT_SHARE)
    recomputes: ClassVar = {"step_size": "max_step_size, or multiply it by lr,"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        beta: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        r: float = 0.0,
        c_warmup: int = 0,
        beta_max: float = 0.965,
        anneal_steps: int = 0,
        polyak_beta: float = 0.0,
        max_step_size: float = 0.01,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "beta": beta,
            "eps": eps,
            "weight_decay": weight_decay,
            "r": r,
            "c_warmup": c_warmup,
            "beta_max": beta_max,
            "anneal_steps": anneal_steps,
            "polyak_beta": polyak_beta,
            "max_step_size": max_step_size,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        check_adam(group)
        check_averaging(group, group["beta"], "beta")
        require_steps(group, "c_warmup", "anneal_steps")
        for name in ("polyak_beta", "beta_max"):
            require(0 <= group[name] < 1, name, group[name], "[0, 1)")
        largest = group["max_step_size"]
        require(0 < largest <= math.inf, "max_step_size", largest, "(0, inf]")
        shared = ("polyak_beta", "max_step_size", "r", "c_warmup")
        require_alike(self.param_groups[0], group, *shared)

    def effective_lr(self, group: Group) -> Tensor:
        return group["step_size"] * (lr_of(group) / (largest_lr(self.param_groups) or 1.0))

    def init_state(self, p: Tensor, group: Group) -> State:
        z, exp_avg, exp_avg_sq = p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)
        return {**new_averaging(), "z": z, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}

    @staticmethod
    def measure(b: Bucket) -> tuple[Tensor, Tensor]:
        return b.grad.dot(b.z.sub(b.param)), b.grad.norm(1)

    def prepare(self, *sums: Tensor) -> None:
        slope, grad_l1, loss = sums
        first = self.param_groups[0]
        polyak_beta = first["polyak_beta"]
        e = math.sqrt(math.pi / 2) * grad_l1
        e = polyak_beta * first["grad_l1"] + (1 - polyak_beta) * finite_or(e, first["grad_l1"])
        e_hat = e / (1 - polyak_beta ** (first["k"] + 1))
        at_z = (loss + slope).clamp(min=0)
        # Without a gradient, or after an overflow, keep the last step's size.
        step_size = finite_or(largest_lr(self.param_groups) * at_z / e_hat, first["step_size"])
        # The authors have no bound.
        step_size = step_size.clamp(max=first["max_step_size"])
        write(self.param_groups, grad_l1=e, step_size=step_size)
        learn_share(self.param_groups, step_size, first["c_warmup"])

    def advance(self, group: Group, counts: State) -> State:
        beta1, beta2 = group["betas"]
        beta = _annealed_beta(group, counts["step"])
        counts["step"] += 1
        step = counts["step"]
        c = learnt_share(group, 1.0, counts)
        return {
            **interpolations(beta, c, counts),
            "lr": group["step_size"] * (lr_of(group) / largest_lr(self.param_groups)),
            "bias_correction1": 1 - beta1**step,
            "bias_correction2": 1 - beta2**step,
        }

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        beta1, beta2 = b.group["betas"]
        y = b.param
        b.exp_avg.lerp_(b.grad, 1 - beta1)
        b.exp_avg_sq.mul_(beta2).addcmul_(b.grad, b.grad, value=1 - beta2)
        eps = b.group["eps"]
        root = b.exp_avg_sq.div(b.bias_correction2).sqrt_().add_(eps).without_zeros_(eps)
        adam = b.exp_avg.div(b.bias_correction1).div_(root)
        move(b, adam.add_(y, alpha=b.lr * b.group["weight_decay"]))
        return ()

    to_evaluation = staticmethod(to_x)
    to_training = staticmethod(to_y)
    restart = staticmethod(restart_z)


def _annealed_beta(group: Group, steps: int) -> float:
    """beta, the interpolation between z and x, after a parameter's first `steps` steps."""
    beta = group["beta"]
    if not group["anneal_steps"]:
        return beta
    progress = min(1.0, steps / group["anneal_steps"])
    return 1 - (1 - beta) ** (1 - progress) * (1 - group["beta_max"]) ** progress
