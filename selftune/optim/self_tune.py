"""SelfTune: orthogonalized momentum, steps from the distance travelled, an average to judge by."""

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
    lr_of,
    orthogonalized_parts,
    put,
    require_whole,
)
from selftune.tensor_list import TensorList

MOMENTUM = 0.9
BETA2 = 0.99  # of the second moment of vectors, as of Adam's
LONG = 0.999  # decay of the long average of a tensor's squared gradient norm
SMALL = 10  # steps shrink once gradients are below a tenth of their usual size
DISTANCE_SHARE = 0.35
AVERAGING_POWER = 8  # the average weighs step t by about t^8: its window is a ninth of the run
# The root mean square of a vector's direction where gradients are noise: the 2-norm of the weights
# with which Nesterov momentum of .9 sums them.
SIZE_OF_NOISE = 0.27
# Matrices of more rows than this times their columns, or the reverse, are tables of vectors
# (embeddings) or nearly vectors, which have few directions to make equal.
LARGEST_ASPECT = 8
# Per tensor: its largest distance from p0; its squared gradient norm, the last and two averages.
NUMBERS = ("distance", "latest_grad_sq", "grad_sq", "usual_grad_sq")
# Added to roots of second moments, which float32 rounds to zero from about here on.
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

    Step sizes eta = sqrt(lr * c r / sqrt(t)), for each tensor: halfway, in the logarithm, between
    the prior lr and the step of Ivgi et al., DoG is SGD's Best Friend, 2023, L-DoG,
    https://arxiv.org/abs/2302.12022, for directions of unit size. r is the largest distance from
    its start that the tensor has had, in units of the norm of u, and at least lr; c = .35. (The
    norm of a vector's u is taken to be what it is where gradients are noise.)

    The model is judged at x, the average of all iterates in which that of step t counts about t^8,
    Shamir & Zhang, Stochastic Gradient Descent for Non-smooth Optimization, 2013,
    https://arxiv.org/abs/1212.1824: it takes the place of a decaying learning rate at any length
    of the run. Move to it with `eval()`, `evaluation_weights()` or `attach`.

    lr: the prior of the step size. Steps depend on its square root where r is a way that the
        problem asks for, and are proportional to it where r comes from noise.
    weight_decay: decoupled, times eta, for matrices and vectors alike. Without it, normalized
        directions go on growing the weights of a network that has learnt its training set.
    The steps do not depend on the scale of the loss. State: x, p0 and `exp_avg` (m), 3 words per
    parameter, with `exp_avg_sq` 4 for vectors; four numbers per tensor. `compile=True` compiles
    the steps of vectors.

    Raises ValueError for parameters of FullyShardedDataParallel, which cuts and merges tensors.
    """

    always = DECOUPLED

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        weight_decay: float = 0.05,
        compile: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "compile": compile})

    def check(self, group: Group) -> None:
        require_nonnegative(group, "lr", "weight_decay")
        require_whole("SelfTune", group["params"])

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
        scale = math.sqrt(max(1.0, rows / columns)) if rows else 1.0
        return {
            "spectral": rows > 0,
            "lr": lr_of(group),
            "dog": DISTANCE_SHARE / math.sqrt(step),
            "scale": scale,
            "unit": scale * math.sqrt(min(rows, columns))
            if rows
            else SIZE_OF_NOISE * math.sqrt(columns),
            "momentum_correction": 1 - MOMENTUM**step,
            "bias_correction": 1 - BETA2**step,
            "usual_correction": 1 - LONG**step,
            "c": (AVERAGING_POWER + 1) / (AVERAGING_POWER + step),
        }

    def prepare(self, *sums: Tensor) -> None:
        # Norms of whole tensors, where `measure` gives sums over buckets.
        for b, squares in self.squared_norms(lambda b: [b.param.sub(b.p0), b.grad]):
            distance_sq, grad_sq = squares
            distance = TensorList(distance_sq.sqrt().unbind()).maximum_(b.distance)
            self.measured(b.distance, distance)
            # They are compared with each other only: where one overflows, a large number serves.
            grad_sq = grad_sq.clamp(max=torch.finfo(grad_sq.dtype).max / SMALL)
            self.measured(b.latest_grad_sq, TensorList(grad_sq.unbind()))

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        b.exp_avg.lerp_(b.grad, 1 - MOMENTUM)
        ahead = b.grad.lerp(b.exp_avg, MOMENTUM)
        direction = _orthogonal(b, ahead) if b.spectral else _adaptive(b, ahead)
        r = b.distance.div(b.unit).maximum_(b.lr)
        eta = r.mul_(b.dog * b.lr).sqrt_()
        step = direction.mul_(_share(b)).add_(b.param, alpha=b.group["weight_decay"]).mul_(eta)
        b.param.add_(step, alpha=-1)
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

    def effective_lr(self, group: Group) -> float | Tensor:
        etas: list[Tensor] = []
        for state in (self.state.get(p) for p in group["params"]):
            if state and state["columns"]:  # an empty tensor has no step
                counts = {name: v for name, v in state.items() if not isinstance(v, Tensor)}
                n = self.advance(group, {**counts, "step": max(0, counts["step"] - 1)})
                r = (state["distance"] / n["unit"]).clamp(min=n["lr"])
                etas.append((r * (n["dog"] * n["lr"])).sqrt())
        return torch.stack(etas).mean() if etas else lr_of(group)


def is_matrix(p: Tensor) -> bool:
    if p.dim() < 2:
        return False
    shape = p.shape[0], p.shape[1:].numel()
    return min(shape) > 1 and max(shape) <= LARGEST_ASPECT * min(shape)


def _orthogonal(b: Bucket, ahead: TensorList) -> TensorList:
    return TensorList(orthogonalized_parts(b.members, ahead.tensors)).mul_(b.scale)


def _adaptive(b: Bucket, ahead: TensorList) -> TensorList:
    b.exp_avg_sq.mul_(BETA2).addcmul_(b.grad, b.grad, value=1 - BETA2)
    root = b.exp_avg_sq.div(b.bias_correction).sqrt_().add_(TINY)
    return ahead.div_(b.momentum_correction).div_(root)


def _share(b: Bucket) -> TensorList:
    b.grad_sq.lerp_(b.latest_grad_sq, 1 - MOMENTUM)
    b.usual_grad_sq.lerp_(b.latest_grad_sq, 1 - LONG)
    present = b.grad_sq.div(b.momentum_correction)
    usual = b.usual_grad_sq.div(SMALL**2 * b.usual_correction)
    usual.maximum_(present).add_((TINY / SMALL) ** 2)
    return present.div_(usual).sqrt_()  # at most 1
