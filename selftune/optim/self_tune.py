"""SelfTune: orthogonalized momentum, steps as long as they help the average, which is judged."""

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
AVERAGING_POWER = 8  # the average weighs step t by about t^8: its window is a ninth of the run
# The cost of the step size may be this share of what travelling on is worth.
COST_SHARE = 0.7
# A gain below this share of the largest one so far does not call for longer steps.
NEGLIGIBLE = 0.03
# The step size changes at most as ((t + 40) / 40)^3 or the inverse: twofold in 10 steps at first.
GROWTH, SLOWNESS = 3, 40
# Matrices of more rows than this times their columns, or the reverse, are tables of vectors
# (embeddings) or nearly vectors, which have few directions to make equal.
LARGEST_ASPECT = 8
# Per tensor: its squared gradient norm, the last one and two averages.
NUMBERS = ("latest_grad_sq", "grad_sq", "usual_grad_sq")
# Gradients are taken to be at least this large in second moments, whose squares float32 can hold,
# and momentum below TINY^2 to be zero.
TINY = 1e-18


class SelfTune(Optimizer):
    """The optimizer to take when nothing is to be set: no learning rate, horizon or schedule.

        optimizer = SelfTune(model.parameters())
        attach(model, optimizer)

    Directions u of unit size, from the Nesterov momentum m of the gradients:
      matrices, and convolutions as (output channels, rest): the nearest semi-orthogonal matrix to
        m, times sqrt(max(1, rows / columns)), as in Jordan et al., Muon, 2024,
        https://kellerjordan.github.io/posts/muon/;
      vectors, and matrices more than 8 times as long as wide: NAdam, Dozat, 2016, with betas
        (.9, .99).
    Both are multiplied by 10 times the present norm of the gradient over its usual one, the roots
    of their averages over 10 and 1,000 steps, where that is below 1: steps end when gradients do,
    as they do by Adam's eps, but at any scale of the loss.

    The model is judged at x, the average of all iterates in which that of step t counts about t^8,
    Shamir & Zhang, Stochastic Gradient Descent for Non-smooth Optimization, 2013,
    https://arxiv.org/abs/1212.1824: it takes the place of a decaying learning rate at any length
    of the run. Move to it with `eval()`, `evaluation_weights()` or `attach`.

    The step size eta is one number for all tensors, learnt from two inner products with the
    gradient g at the iterate p, each averaged with the weights of x:
      cost = <g, p - x>: how much the loss at p exceeds that at x, to first order. It is negative
        while p runs ahead of x downhill and positive once p jumps about x;
      gain = |<g, p0 - x>|: what the way from the start p0 still earns or loses. With its sign it
        is the numerator of D-Adaptation and Prodigy.
    Steps become longer while the cost is below .7 of the gain and shorter while it is above:
      log eta += 3 / (t + 40) * (.7 gain - cost) / (|cost| + .7 gain + .02 largest gain so far).
    The scale of the loss cancels. This rule is our own.

    lr: the first step size; eta is a multiple of lr, so that groups may differ and schedules apply.
        A tenth of what is right is made up for in about 50 steps; first steps that are ten times
        too long can do harm that lasts.
    weight_decay: decoupled, times eta, for matrices and vectors alike. Without it, normalized
        directions go on growing the weights of a network that has learnt its training set.
    State: x, p0 and `exp_avg` (m), 3 words per parameter, with `exp_avg_sq` 4 for vectors; three
    numbers per tensor; in the groups `log_scale`, which is log(eta / lr), its companions `cost`,
    `gain` and `largest_gain`, and `t`, 0-d tensors on the device. `compile=True` compiles the
    steps of vectors.

    Raises ValueError for parameters of FullyShardedDataParallel, which cuts and merges tensors.
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
            "columns": p.shape[1:].numel() if matrix else p.numel(),
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
            # They are compared with each other only: where one overflows, a large number serves.
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
    b.grad_sq.lerp_(b.latest_grad_sq, 1 - MOMENTUM)
    b.usual_grad_sq.lerp_(b.latest_grad_sq, 1 - LONG)
    present = b.grad_sq.div(b.momentum_correction)
    usual = b.usual_grad_sq.div(SMALL**2 * b.usual_correction)
    usual.maximum_(present).add_((TINY / SMALL) ** 2)
    return present.div_(usual).sqrt_()  # at most 1
