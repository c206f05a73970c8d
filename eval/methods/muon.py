"""Muon: orthogonalized momentum for matrices, an Adam for all other parameters.

Jordan et al., Muon, 2024. https://kellerjordan.github.io/posts/muon/
Both methods are AlgoPerf submissions of 2026: mlcommons/submissions_algorithms, branch
a100_scoring, submissions/self_tuning/muon_torch_replicated_torch_hps and muon.
"""

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from selftune import optim

from . import horizon
from .method import Built, Method
from .multi_optimizer import MultiOptimizer
from .rule import Group, Rule, State

# Jordan's quintic polynomial: its iteration takes singular values to about 1, between .7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5
EPS = 1e-7


class Muon(Rule):
    """m <- beta m + (1 - beta) g;  p <- (1 - lr weight_decay) p - lr direction(m).

    With Nesterov momentum, p moves along direction(beta m + (1 - beta) g) instead.

    direction: a function that turns the momentum of a matrix or kernel into a step.
    """

    def __init__(
        self, params: Iterable[Tensor], direction: Callable[[Tensor], Tensor], **options: Any
    ) -> None:
        super().__init__(params, **options)
        self._direction = direction

    def init_state(self, p: Tensor) -> State:
        return {"momentum": torch.zeros_like(p)}

    def update(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        lr, beta = group["lr"], group["beta"]
        momentum = state["momentum"].lerp_(gradient, 1 - beta)
        if group["nesterov"]:
            momentum = momentum.lerp(gradient, 1 - beta)
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(self._direction(momentum), alpha=-lr)


def orthogonalized(matrix: Tensor) -> Tensor:
    """About U V^T, where U S V^T is the singular value decomposition of `matrix` (rows, columns).

    Five Newton-Schulz iterations with `COEFFICIENTS`, in the matrix's own precision; the PyTorch
    submission iterates in bfloat16, which is slow on a CPU.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + EPS)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.T


def direction_out_by_rest(momentum: Tensor) -> Tensor:
    """The PyTorch submission's direction: a kernel is a matrix (out, all other dimensions).

    As published, its scale depends on the channels only, not on the kernel's size.
    """
    rows, columns = momentum.shape[:2]
    direction = orthogonalized(momentum.flatten(1)).view_as(momentum)
    return max(1.0, sqrt(rows / columns)) * direction


def direction_height_by_rest(momentum: Tensor) -> Tensor:
    """The JAX submission's direction: a kernel is a matrix (height, all other dimensions).

    A 3 x 3 convolution is thus a matrix with three rows, as kernels are (height, width, in, out)
    in JAX. A linear layer's weight is (in, out) there, which makes no difference.
    """
    if momentum.ndim == 2:
        return direction_out_by_rest(momentum)
    jax = momentum.movedim((1, 0), (-2, -1))
    matrix = jax.flatten(1)
    height, rest = matrix.shape
    direction = orthogonalized(matrix).view(jax.shape).movedim((-2, -1), (1, 0))
    return max(1.0, sqrt(rest / height)) * direction


def muon_torch(model: nn.Module, num_steps: int) -> Built:
    """The PyTorch submission: AlgoPerf scores of .4231 and, repeated, .3827 on A100s.

    Deviations: no label smoothing of .1 and the workload's own dropout instead of .1; the
    iteration's precision; embeddings are recognized by their modules, not by their names alone.
    """
    matrices, rest = matrices_and_rest(model)
    optimizer = MultiOptimizer(
        (
            matrices,
            lambda p: Muon(
                p, direction_out_by_rest, lr=0.01, beta=0.9, nesterov=True, weight_decay=0.0
            ),
        ),
        (rest, lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.0)),
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.05), None


def muon_jax(model: nn.Module, num_steps: int) -> Built:
    """The JAX submission: AlgoPerf score .2845 on A100s.

    Deviations: the workload's own dropout instead of none; embeddings are recognized by their
    modules. A parameter that has "embed" in its JAX name only, such as a Vision Transformer's
    first convolution, is a kernel like others.
    """
    lr = 0.0001357495179
    matrices, rest = matrices_and_rest(model)
    optimizer = MultiOptimizer(
        (
            matrices,
            lambda p: Muon(
                p,
                direction_height_by_rest,
                lr=28.61130298 * lr,
                beta=0.9560745273,
                nesterov=False,
                weight_decay=0.02397563985,
            ),
        ),
        (
            rest,
            lambda p: optim.NAdamW(
                p, lr=lr, betas=(0.96586744, 0.8629173173), weight_decay=0.01275028385
            ),
        ),
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.0), None


def matrices_and_rest(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Trained parameters of two or more dimensions that are not embeddings, and all others."""
    lookups = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    matrices, rest = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            is_matrix = p.ndim >= 2 and id(p) not in lookups and "embed" not in name.lower()
            (matrices if is_matrix else rest).append(p)
    return matrices, rest


PUBLISHED = (
    Method(
        "muon_torch",
        "Muon, lr .01 x max(1, sqrt(out / in)), Nesterov .9; AdamW .9/.999 at the same lr for "
        "embeddings and vectors; cosine over 4/3 x after 5 % warm-up",
        "none, as the submission",
        muon_torch,
    ),
    Method(
        "muon_jax",
        "Muon, lr .003884 x max(1, sqrt(out / in)), momentum .95607; NAdamW .96587/.86292 at lr "
        ".00013575 for embeddings and vectors; cosine over 4/3 x",
        "decoupled .02398 x lr for matrices, .01275 x lr for the rest, as the submission",
        muon_jax,
    ),
)
