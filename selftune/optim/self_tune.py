"""SelfTune: orthogonalized momentum, a learnt step size, evaluation at an average of iterates."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.engine.options import DECOUPLED, require_nonnegative
from selftune.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    State,
    Write,
    clear,
    lr_of,
    orthogonalized_parts,
    put,
    write,
)
from selftune.tensor_list import TensorList

MOMENTUM = 0.9
BETA2 = 0.99  # of the second moment of vectors, as of Adam's
LONG = 0.999  # decay of the long average of a tensor's squared gradient norm
SMALL = 10  # steps shrink once gradients are below a tenth of their usual size
AVERAGING_POWER = 8  # the average weights step t by about t^8, so its window is a ninth of the run
# Steps become longer while `cost` is below this share of `gain`; the class says what they are.
COST_SHARE = 0.7
# A gain below this share of the largest one so far does not call for longer steps.
NEGLIGIBLE = 0.03
# The step size changes at most as ((t + 40) / 40)^3 or the inverse: twofold in 10 steps at first.
GROWTH, SLOWNESS = 3, 40
# Matrices with a larger aspect ratio are treated as vectors: they are embedding tables, or have
# too few singular directions for orthogonalization to matter.
LARGEST_ASPECT = 8
# State of each tensor: its latest squared gradient norm, and averages over 10 and 1,000 steps.
NUMBERS = ("latest_grad_sq", "grad_sq", "usual_grad_sq")
# The smallest root mean square of gradients: float32 can still hold its square. Momentum below
# TINY^2 counts as zero.
TINY = 1e-18


class SelfTune(Optimizer):
    """An optimizer with no learning rate, horizon or schedule to set.

        optimizer = SelfTune(model.parameters())
        attach(model, optimizer)

    The direction of a step has unit size and comes from the Nesterov momentum m of the gradients:
      matrices, and convolutions as (output channels, rest): the nearest semi-orthogonal matrix to
        m, times sqrt(max(1, rows / columns)), as in Jordan et al., Muon, 2024,
        https://kellerjordan.github.io/posts/muon/;
      vectors, and matrices more than 8 times as long as wide: NAdam, Dozat, 2016, with betas
        (.9, .99).
    Both are multiplied by min(1, 10 r), where r is the present norm of the tensor's gradient over
    its usual one: the root mean squares over 10 and 1,000 steps. So steps vanish when gradients
    do, as with Adam's eps, but at any scale of the loss.

    The model is evaluated at x, the average of all iterates with weight about t^8 for step t,
    Shamir & Zhang, Stochastic Gradient Descent for Non-smooth Optimization, 2013,
    https://arxiv.org/abs/1212.1824. The average takes the place of a decaying learning rate, for
    a run of any length. Move to it with `eval()`, `evaluation_weights()` or `attach`.

    The step size eta is one number for all tensors, learnt from two inner products with the
    gradient g at the iterate p, each averaged with the weights of x:
      cost = <g, p - x>: how much the loss at p exceeds that at x, to first order. It is negative
        while p moves downhill ahead of x, and positive once p oscillates about x;
      gain = |<g, p0 - x>|: how much the loss still changes along the way from the start p0 to x.
        Without the absolute value it is the numerator of D-Adaptation and Prodigy.
    Steps become longer while the cost is below .7 of the gain and shorter while it is above:
      log eta += 3 / (t + 40) * (.7 gain - cost) / (|cost| + .7 gain + .02 largest gain so far).
    The scale of the loss cancels. This rule is not from a paper.

    lr: the first step size; eta is a multiple of lr, so that groups may differ and schedules apply.
        If it is ten times too small, eta catches up in about 50 steps; if it is ten times too
        large, the first steps can do lasting harm.
    weight_decay: decoupled, times eta, for matrices and vectors alike. Without it, steps of unit
        size make the weights grow on once a network has learnt its training set. Where the loss
        has no noise and many digits are wanted, 0: decay holds the steps up then.
    State: x, p0 and `exp_avg` (m), 3 words per parameter, for vectors 4, with `exp_avg_sq`; three
    numbers per tensor; in the groups `log_scale`, which is log(eta / lr), the averages `cost` and
    `gain`, `largest_gain`, and the step `t`, 0-d tensors on the device. `compile=True` compiles
    the steps of vectors with 65,536 elements or more, and no others.

    Raises ValueError for parameters of FullyShardedDataParallel, which flattens and splits them.
    """

    wants_whole_tensors = True
    always = DECOUPLED
    learns = ("log_scale", "cost", "gain", "largest_gain", "t")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.003,
        weight_decay: float = 0.05,
        compile: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "compile": compile})

    def check(self, group: Group) -> None:
        require_nonnegative(group, "lr", "weight_decay")

    def init_state(self, p: Tensor, group: Group) -> State:
        number = torch.zeros((), dtype=p.dtype, device=p.device)
        matrix = is_matrix(p)
        return {
            "step": 0,
            "rows": p.shape[0] if matrix else 0,
            "columns": p.shape[1:].numel() if matrix else 0,
            "x": p.detach().clone(),
            "p0": p.detach().clone(),
            "exp_avg": torch.zeros_like(p),
            **({} if matrix else {"exp_avg_sq": torch.zeros_like(p)}),
            **{name: number.clone() for name in NUMBERS},
        }

    def advance(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        step, rows, columns = (counts[name] for name in ("step", "rows", "columns"))
        return {
            "spectral": rows > 0,
            "lr": lr_of(group),
            "scale": math.sqrt(max(1.0, rows / columns)) if rows else 1.0,
            "momentum_correction": 1 - MOMENTUM**step,
            "bias_correction": 1 - BETA2**step,
            "usual_correction": 1 - LONG**step,
            "c": (AVERAGING_POWER + 1) / (AVERAGING_POWER + step),
        }

    @staticmethod
    def measure(b: Bucket) -> tuple[Tensor, Tensor]:
        return b.grad.dot(b.param.sub(b.x)), b.grad.dot(b.p0.sub(b.x))

    def prepare(self, *sums: Tensor) -> None:
        self._learn_step_size(*sums)
        # Norms of whole tensors, where `measure` gives sums over buckets.
        for b, (grad_sq,) in self.squared_norms(lambda b: [b.grad]):
            # Only their ratios are used, so that a norm that overflows may be clamped.
            grad_sq = grad_sq.clamp(max=torch.finfo(grad_sq.dtype).max / SMALL)
            self.measured(b.latest_grad_sq, TensorList(grad_sq.unbind()))

    def _learn_step_size(self, cost: Tensor, gain: Tensor) -> None:
        group = self.param_groups[0]
        t = group["t"] + 1
        c = (AVERAGING_POWER + 1) / (AVERAGING_POWER + t)
        cost = group["cost"].lerp(cost.to(t), c)
        gain = group["gain"].lerp(gain.to(t), c)
        largest_gain = torch.maximum(group["largest_gain"], gain.abs())
        worth = COST_SHARE * gain.abs()
        usual = cost.abs() + worth + COST_SHARE * NEGLIGIBLE * largest_gain
        change = torch.where(usual > 0, (worth - cost) / usual, 0)
        log_scale = group["log_scale"] + GROWTH / (t + SLOWNESS) * change
        learnt = {"cost": cost, "gain": gain, "largest_gain": largest_gain, "t": t}
        write(self.param_groups, log_scale=log_scale, **learnt)

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        b.exp_avg.lerp_(b.grad, 1 - MOMENTUM).without_tiny_(TINY**2)
        ahead = b.grad.lerp(b.exp_avg, MOMENTUM)
        direction = _orthogonal(b, ahead) if b.spectral else _adaptive(b, ahead)
        eta = b.group["log_scale"].exp() * b.lr
        step = direction.mul_(_share(b)).add_(b.param, alpha=b.group["weight_decay"])
        b.param.add_(step, alpha=-eta)
        b.x.lerp_(b.param, b.c)
        return ()

    @staticmethod
    def to_evaluation(b: Bucket) -> tuple[()]:
        """Exchange the last iterate with x."""
        last = b.param.clone()
        b.param.copy_(b.x)
        b.x.copy_(last)
        return ()

    to_training = to_evaluation

    @staticmethod
    def restart(p: Tensor, state: State, group: Group, write: Write) -> None:
        put(state["x"], p, write.where)
        if write.where is None and not write.again:
            state["p0"].copy_(p)

    def forget(self) -> None:
        clear(self.param_groups, ("cost", "gain", "largest_gain"))

    def effective_lr(self, group: Group) -> Tensor:
        return group["log_scale"].exp() * lr_of(group)


def is_matrix(p: Tensor) -> bool:
    if p.dim() < 2:
        return False
    shape = p.shape[0], p.shape[1:].numel()
    return min(shape) > 1 and max(shape) <= LARGEST_ASPECT * min(shape)


def _orthogonal(b: Bucket, ahead: TensorList) -> TensorList:
    return TensorList(orthogonalized_parts(b.members, ahead.tensors)).mul_(b.scale)


def _adaptive(b: Bucket, ahead: TensorList) -> TensorList:
    b.exp_avg_sq.mul_(BETA2).addcmul_(b.grad, b.grad, value=1 - BETA2).maximum_(TINY**2)
    root = b.exp_avg_sq.div(b.bias_correction).sqrt_()
    return ahead.div_(b.momentum_correction).div_(root)


def _share(b: Bucket) -> TensorList:
    """min(1, 10 r) for each tensor, r being its gradient's present norm over its usual one."""
    b.grad_sq.lerp_(b.latest_grad_sq, 1 - MOMENTUM)
    b.usual_grad_sq.lerp_(b.latest_grad_sq, 1 - LONG)
    present = b.grad_sq.div(b.momentum_correction)
    usual = b.usual_grad_sq.div(SMALL**2 * b.usual_correction)
    usual.maximum_(present).add_((TINY / SMALL) ** 2)
    return present.div_(usual).sqrt_()
