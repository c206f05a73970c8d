"""Schedule-Free SGD, AdamW and RAdam: averaging in place of a decaying learning rate."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.engine.options import (
    COUPLED,
    DECOUPLED,
    require,
    require_nonnegative,
    require_steps,
)
from selftune.optim.optimizer import Bucket, Group, Optimizer, State, lr_of
from selftune.optim.sequences import (
    advance_averaging,
    check_averaging,
    move,
    new_averaging,
    restart_z,
    to_x,
    to_y,
    warmed_up_lr,
)


class ScheduleFreeSGD(Optimizer):
    """Schedule-Free SGD: averaging in place of a decaying learning rate, for runs of any length.

        optimizer = ScheduleFreeSGD(model.parameters(), lr=1.0)
        attach(model, optimizer)

    z takes the steps of SGD; x is the average of all z, where the model is evaluated;
    y = (1 - beta) z + beta x is where gradients are taken, and what the parameters hold in
    training. The parameters have to hold x whenever the model is evaluated, saved or exported:
    `attach` takes care of it; by hand, use `evaluation_weights()`, or `eval()` and `train()`.

    Defazio et al., The Road Less Scheduled, 2024, equations 2 to 4. https://arxiv.org/abs/2405.15682

    momentum: the interpolation beta, in (0, 1]; at 1, y = x (primal averaging).
    warmup_steps: steps of linear warm-up of lr. The averaging weight of a step is
        (its number)^r * (largest lr so far)^2; r = 0 is the paper's.
    weight_decay: an L2 term at y, added to the gradient.
    Defaults are those of the schedulefree package. State: z, 1 word per parameter.
    """

    always = COUPLED | {"weight_lr_power": 2}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        check_averaging(group, group["momentum"], "momentum")
        require_steps(group, "warmup_steps")

    def init_state(self, p: Tensor, group: Group) -> State:
        return {**new_averaging(), "z": p.detach().clone()}

    def advance(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        lr = warmed_up_lr(group, counts["step"])
        return advance_averaging(group, group["momentum"], lr, counts)

    def effective_lr(self, group: Group) -> float:
        return warmed_up_lr(group, self.most_steps(group))

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        y = b.param
        move(b, direction=b.grad.add(y, alpha=b.group["weight_decay"]))
        return ()

    to_evaluation = staticmethod(to_x)
    to_training = staticmethod(to_y)
    restart = staticmethod(restart_z)


class ScheduleFreeAdamW(Optimizer):
    """Schedule-Free AdamW, winner of AlgoPerf's first self-tuning competition.

        optimizer = ScheduleFreeAdamW(model.parameters(), lr=0.0025)
        attach(model, optimizer)

    It needs neither a schedule nor the length of the run: averaging takes the place of a decay.
    z takes the steps of AdamW; x is the average of all z, where the model is evaluated;
    y = (1 - beta1) z + beta1 x is where gradients are taken, and what the parameters hold in
    training. The parameters have to hold x whenever the model is evaluated, saved or exported:
    `attach` takes care of it; by hand, use `evaluation_weights()`, or `eval()` and `train()`.

    Defazio et al., The Road Less Scheduled, 2024, Algorithm 1. https://arxiv.org/abs/2405.15682

    betas: the interpolation beta1, in (0, 1], and the decay beta2 of the second moment.
    warmup_steps: steps of linear warm-up of lr. The averaging weight of a step is
        (its number)^r * (largest lr so far)^2; r = 0 is the paper's.
    weight_decay: decoupled from the second moment, taken at `decay_at`: y, x or z.
    inner_momentum: decay of a momentum that takes the gradient's place, as in Adam (0.9 for large
        batches; Defazio, ScheduleFree+, 2026, https://arxiv.org/abs/2605.19095).
    averaging_constant: C of Song et al., Through the River, 2025,
        https://arxiv.org/abs/2507.09846. It makes the average's window independent of beta1:
        c <- min(1, (1 - beta1) C c). 1 / (1 - beta1), like None, changes nothing; a larger one
        forgets faster.
    The paper puts the bias correction sqrt(1 - beta2^t) into the step size, and so into the
    averaging weights; here, as in the schedulefree package, it corrects the second moment only.
    Defaults are those of that package. State: z and `exp_avg_sq`, 2 words per parameter; with
    inner momentum `exp_avg`, a third.
    """

    always = DECOUPLED | {"weight_lr_power": 2}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        decay_at: Literal["x", "y", "z"] = "y",
        inner_momentum: float = 0.0,
        averaging_constant: float | None = None,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "decay_at": decay_at,
            "inner_momentum": inner_momentum,
            "averaging_constant": averaging_constant,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        require(0 <= group["betas"][1] < 1, "betas[1]", group["betas"][1], "[0, 1)")
        require_steps(group, "warmup_steps")
        _check_adam(group)

    def init_state(self, p: Tensor, group: Group) -> State:
        return _adam_state(p, group)

    def advance(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        return _adam_numbers(group, warmed_up_lr(group, counts["step"]), counts)

    def effective_lr(self, group: Group) -> float:
        return warmed_up_lr(group, self.most_steps(group))

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        return _adam_step(b)

    to_evaluation = staticmethod(to_x)
    to_training = staticmethod(to_y)
    restart = staticmethod(restart_z)


class ScheduleFreeRAdam(Optimizer):
    """Schedule-Free AdamW with the warm-up of RAdam.

        optimizer = ScheduleFreeRAdam(model.parameters(), lr=0.0025)
        attach(model, optimizer)

    `ScheduleFreeAdamW` says what x, y and z are, and when the parameters have to hold which.

    Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2020, Algorithm 2,
    https://arxiv.org/abs/1908.03265, around the step of `ScheduleFreeAdamW`, whose other options
    it shares.

    lr is multiplied by the rectification r_t, also in the averaging weights. While r_t is not
    defined (the first 4 steps for beta2 = 0.999), only the second moment is updated; the paper
    takes steps of SGD there, for which an lr of Adam has the wrong scale.
    betas: as in `ScheduleFreeAdamW`; beta2 has to be larger than 0.6, or r_t is never defined.
    Defaults are those of the schedulefree package. State: z and `exp_avg_sq`, 2 words per
    parameter; with inner momentum `exp_avg`, a third.
    """

    always = DECOUPLED | {"weight_lr_power": 2, "silent_sgd_phase": True}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        r: float = 0.0,
        decay_at: Literal["x", "y", "z"] = "y",
        inner_momentum: float = 0.0,
        averaging_constant: float | None = None,
        compile: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "r": r,
            "decay_at": decay_at,
            "inner_momentum": inner_momentum,
            "averaging_constant": averaging_constant,
            "compile": compile,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        require(0.6 < group["betas"][1] < 1, "betas[1]", group["betas"][1], "(0.6, 1)")
        _check_adam(group)

    def init_state(self, p: Tensor, group: Group) -> State:
        return _adam_state(p, group)

    def advance(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        rectification = _rectification(group["betas"][1], counts["step"])
        return _adam_numbers(group, lr_of(group) * rectification, counts)

    def effective_lr(self, group: Group) -> float:
        return lr_of(group) * _rectification(group["betas"][1], self.most_steps(group))

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        return _adam_step(b)

    to_evaluation = staticmethod(to_x)
    to_training = staticmethod(to_y)
    restart = staticmethod(restart_z)


def _adam_step(b: Bucket) -> tuple[()]:
    _, beta2 = b.group["betas"]
    y, z, eps, momentum = b.param, b.z, b.group["eps"], b.group["inner_momentum"]
    grad = b.grad
    if "exp_avg" in b.attributes:
        grad = b.exp_avg.lerp_(grad, 1 - momentum).div(b.momentum_correction)
    b.exp_avg_sq.mul_(beta2).addcmul_(b.grad, b.grad, value=1 - beta2)
    denominator = b.exp_avg_sq.div(b.bias_correction).sqrt_().add_(eps).without_zeros_(eps)
    decay_at = b.group["decay_at"]
    decayed = y if decay_at == "y" else z if decay_at == "z" else y.lerp(z, b.toward_x)
    move(b, grad.div(denominator).add_(decayed, alpha=b.group["weight_decay"]))
    return ()


def _adam_state(p: Tensor, group: Group) -> State:
    state = {**new_averaging(), "z": p.detach().clone(), "exp_avg_sq": torch.zeros_like(p)}
    return {**state, "exp_avg": torch.zeros_like(p)} if group["inner_momentum"] else state


def _adam_numbers(group: Group, lr: float, counts: State) -> State:
    beta1, beta2 = group["betas"]
    return {
        **advance_averaging(group, beta1, lr, counts, group["averaging_constant"]),
        "bias_correction": 1 - beta2 ** counts["step"],
        "momentum_correction": 1 - group["inner_momentum"] ** counts["step"],
    }


def _rectification(beta2: float, step: int) -> float:
    """RAdam's r_t, which shortens early steps, as the second moment is estimated from few."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / (1 - beta2**step)
    if rho <= 4:
        return 0.0
    return math.sqrt((rho - 4) / (rho_inf - 4) * (rho - 2) / (rho_inf - 2) * rho_inf / rho)


def _check_adam(group: Group) -> None:
    beta1, constant, momentum = group["betas"][0], group["averaging_constant"], "inner_momentum"
    check_averaging(group, beta1, "betas[0]")
    require_nonnegative(group, "eps")
    require(0 <= group[momentum] < 1, momentum, group[momentum], "[0, 1)")
    require(group["decay_at"] in ("x", "y", "z"), "decay_at", group["decay_at"], "{x, y, z}")
    if constant is not None:
        require(0 < constant < math.inf, "averaging_constant", constant, "(0, inf)")
        require(beta1 < 1, "betas[0] beside an averaging_constant", beta1, "(0, 1)")
