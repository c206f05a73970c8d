"""DoG, DoWG and LDoG: SGD whose step size is the distance travelled over the gradients seen."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from selftune.optim.distance import finite_or, require_alike
from selftune.optim.engine.options import COUPLED, require, require_nonnegative
from selftune.optim.optimizer import (
    Bucket,
    Group,
    Optimizer,
    State,
    Write,
    lr_of,
    write,
)
from selftune.tensor_list import TensorList


def step_size(distance: Tensor, grad_norm: Tensor) -> Tensor:
    """The step size distance / sqrt(G), or 0 while all gradients were zero.

    The dog-optimizer package adds 1e-8 to G, which changes the steps of a loss of small scale.
    """
    return torch.where(grad_norm > 0, distance / grad_norm, 0.0)


def restart_origin(p: Tensor, state: State, group: Group, write: Write) -> None:
    """Measure distances from newly loaded weights, but not when a constraint is applied."""
    if write.where is None and not write.again:
        state["p0"].copy_(p)


class DistanceOverGradients(Optimizer):
    """Base class with the options that the three methods share."""

    finds_step_size = True
    always = COUPLED

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        reps_rel: float = 1e-6,
        weight_decay: float = 0.0,
        compile: bool = False,
    ) -> None:
        defaults = {"lr": lr, "reps_rel": reps_rel, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "compile": compile})

    def check(self, group: Group) -> None:
        require_nonnegative(group, "lr", "weight_decay")
        require(0 < group["reps_rel"] < math.inf, "reps_rel", group["reps_rel"], "(0, inf)")

    def advance(self, group: Group, counts: State) -> State:
        return {"lr": lr_of(group)}


class OneDistance(DistanceOverGradients):
    """Base class of DoG and DoWG, with one r_bar and G for all parameters.

    They differ in `weight`, which multiplies each step's gradient.
    """

    learns = ("r_bar", "grad_norm", "eta")  # grad_norm is sqrt(G), as G itself may overflow
    recomputes: ClassVar = {"eta": "lr, which multiplies it, or r_bar, from which it is computed,"}

    @staticmethod
    @abstractmethod
    def weight(r_bar: Tensor) -> Tensor: ...

    def check(self, group: Group) -> None:
        super().check(group)
        require_alike(self.param_groups[0], group, "reps_rel")

    def init_state(self, p: Tensor, group: Group) -> State:
        return {"p0": p.detach().clone()}

    restart = staticmethod(restart_origin)

    @staticmethod
    def measure(b: Bucket) -> tuple[Tensor, Tensor]:
        return gradient(b).norm() ** 2, b.p0.norm() ** 2

    def effective_lr(self, group: Group) -> Tensor:
        return group["eta"] * lr_of(group)

    def prepare(self, *sums: Tensor) -> None:
        grad_sq, p0_sq = sums
        group = self.param_groups[0]
        # In every step, as |p0| grows when a parameter gets its first gradient late.
        r_bar = torch.maximum(group["r_bar"], group["reps_rel"] * (1 + p0_sq.sqrt()))
        weight = self.weight(r_bar)
        grad_norm = torch.hypot(group["grad_norm"], (weight * grad_sq.sqrt()).to(r_bar))
        eta = step_size(r_bar * weight, grad_norm)
        write(self.param_groups, r_bar=r_bar, grad_norm=grad_norm, eta=eta)

    @staticmethod
    def update(b: Bucket) -> tuple[Tensor]:
        b.param.add_(gradient(b), alpha=-b.lr * b.group["eta"])
        return (b.param.sub(b.p0).norm() ** 2,)

    @staticmethod
    def rest(b: Bucket) -> tuple[Tensor]:
        return (b.param.sub(b.p0).norm() ** 2,)

    def estimate(self, *sums: Tensor) -> None:
        (distance_sq,) = sums
        before = self.param_groups[0]["r_bar"]
        r_bar = torch.maximum(before, finite_or(distance_sq.sqrt(), before))
        write(self.param_groups, r_bar=r_bar)


class DoG(OneDistance):
    """Distance over Gradients: SGD whose step size is the distance travelled over the gradients.

        optimizer = DoG(model.parameters())  # leave lr at 1
        average = WeightAverage(model, Polynomial())
        average.attach(optimizer)

    Ivgi, Hinder & Carmon, DoG is SGD's Best Friend, 2023, equation (DoG).
    https://arxiv.org/abs/2302.12022

    A step is lr * r_bar / sqrt(G) * g. r_bar is the largest distance from the initial weights p0
    so far, over all parameters as one vector; G is the sum of the squared gradient norms. Evaluate
    and save an average of the iterates, as the paper does: `selftune.averaging.Polynomial`.

    lr: the paper's c; leave it at 1. Parameter groups may differ.
    reps_rel: the first r_bar is reps_rel * (1 + |p0|), the same reps_rel in all groups; 1e-4 for
        models with batch normalization.
    weight_decay: an L2 term, added to the gradient.
    Defaults are those of the dog-optimizer package, in which each group has its own r_bar and G.
    State: p0, 1 word per parameter; in the groups `r_bar`, `grad_norm` = sqrt(G) and the step size
    `eta`, 0-d tensors on the device.
    """

    @staticmethod
    def weight(r_bar: Tensor) -> Tensor:
        return torch.ones_like(r_bar)


class DoWG(OneDistance):
    """Distance over Weighted Gradients.

        optimizer = DoWG(model.parameters())  # leave lr at 1; average the iterates, as for DoG

    Khaled, Mishchenko & Jin, DoWG Unleashed, 2023, Algorithm 1. https://arxiv.org/abs/2305.16284

    A step is lr * r_bar^2 / sqrt(G) * g, with r_bar as in `DoG`. G is the sum of the squared
    gradient norms, each times the r_bar^2 of its step, so that gradients far from p0 weigh more.

    lr: leave it at 1. Parameter groups may differ.
    reps_rel: the first r_bar is reps_rel * (1 + |p0|), the same reps_rel in all groups; the paper
        does not fix it.
    weight_decay: an L2 term, added to the gradient.
    Defaults are DoG's. State: p0, 1 word per parameter; in the groups `r_bar`, `grad_norm` =
    sqrt(G) and the step size `eta`, 0-d tensors on the device.
    """

    @staticmethod
    def weight(r_bar: Tensor) -> Tensor:
        return r_bar


class LDoG(DistanceOverGradients):
    """Layer-wise DoG: `DoG` with an r_bar and a G for each tensor.

        optimizer = LDoG(model.parameters())  # leave lr at 1; average the iterates, as for DoG

    Ivgi, Hinder & Carmon, DoG is SGD's Best Friend, 2023, L-DoG. https://arxiv.org/abs/2302.12022

    lr, reps_rel, weight_decay, and the average to evaluate and save: as in `DoG`.
    Defaults are those of the dog-optimizer package. State: p0, 1 word per parameter, and three
    numbers per tensor.

    Raises ValueError for parameters of FullyShardedDataParallel, which flattens and splits them.
    """

    wants_whole_tensors = True

    def init_state(self, p: Tensor, group: Group) -> State:
        names = ("r_bar", "grad_norm", "eta")
        numbers = {name: torch.zeros((), dtype=p.dtype, device=p.device) for name in names}
        return {"p0": p.detach().clone(), **numbers}

    @staticmethod
    def measure(b: Bucket) -> tuple[Tensor]:
        return (gradient(b).norm() ** 2,)  # if the sum is not finite, no tensor steps

    restart = staticmethod(restart_origin)

    def effective_lr(self, group: Group) -> float | Tensor:
        states = [state for p in group["params"] if (state := self.state.get(p))]
        if not states:
            return 0.0
        return torch.stack([state["eta"] for state in states]).mean() * lr_of(group)

    def prepare(self, *sums: Tensor) -> None:
        # Norms of whole tensors, where `measure` gives sums over buckets.
        for b, squares in self.squared_norms(lambda b: [b.p0, b.param.sub(b.p0), gradient(b)]):
            p0_sq, distance_sq, grad_sq = squares
            r_eps = b.group["reps_rel"] * (1 + p0_sq.sqrt())
            distance = torch.maximum(distance_sq.sqrt(), r_eps)
            r_bar = torch.maximum(torch.stack(b.r_bar.tensors), distance)
            grad_norm = torch.hypot(torch.stack(b.grad_norm.tensors), grad_sq.sqrt())
            found = {"r_bar": r_bar, "grad_norm": grad_norm, "eta": step_size(r_bar, grad_norm)}
            for name, numbers in found.items():
                self.measured(getattr(b, name), TensorList(numbers.unbind()))

    @staticmethod
    def update(b: Bucket) -> tuple[()]:
        b.param.add_(gradient(b).mul_(b.eta), alpha=-b.lr)
        return ()


def gradient(b: Bucket) -> TensorList:
    return b.grad.add(b.param, alpha=b.group["weight_decay"])
