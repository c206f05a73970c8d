"""Distributed Shampoo and CASPR: a full preconditioning matrix for each dimension of a parameter.

Both take the length of NAdam's step, per block or per parameter, in a direction of their own
("grafting"). Sources: mlcommons/submissions_algorithms, previous_leaderboards/algoperf_v05/
submissions/external_tuning, shampoo_submission and caspr_adaptive. Both have five points, as the
external ruleset allows. The one used here by itself reached the most targets in the published
logs; its learning rate, betas and weight decay are the same for both.
"""

from collections.abc import Sequence
from math import cos, pi

import torch
from torch import Tensor, nn

from selftune import schedules

from . import horizon
from .method import Built, Method
from .rule import Group, Rule, State

LR, BETAS = 0.001308209823469072, (1 - 0.02686663061, 1 - 0.00187670778)
WEIGHT_DECAY = 0.16375311233774334
EPS = 1e-8
BLOCK_SIZE = 1024


class Shampoo(Rule):
    """Steps of NAdam's length along m x_1 L_1^(-1/2k) ... x_k L_k^(-1/2k), for each block.

    Gupta et al., Shampoo, 2018, Algorithm 2. https://arxiv.org/abs/1802.09568
    Shi et al., Distributed Shampoo, 2023. https://arxiv.org/abs/2309.06497

    Dimensions are merged while their product is at most `block_size`; longer ones are cut into
    blocks. L_i averages the gradient times itself, summed over all dimensions but i. Roots are
    computed every `period` steps; until the first time, steps are NAdam's.
    """

    def init_state(self, p: Tensor) -> State:
        size = self.defaults["block_size"]
        shapes = [block.shape for block in blocks(merged(p, size), size)]
        return {
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
            "factors": [[p.new_zeros(n, n) for n in shape] for shape in shapes],
            "roots": [[p.new_zeros(n, n) for n in shape] for shape in shapes],
        }

    def update(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        lr, beta2, step, size = group["lr"], group["betas"][1], state["step"], group["block_size"]
        ahead, direction = nadam(gradient, state, group)
        pieces = (blocks(merged(tensor, size), size) for tensor in (gradient, ahead, direction))
        for g, m, adam, factors, roots in zip(
            *pieces, state["factors"], state["roots"], strict=True
        ):
            for axis, factor in enumerate(factors):
                rows = g.movedim(axis, 0).reshape(g.shape[axis], -1)
                factor.mul_(beta2).addmm_(rows, rows.T, alpha=1 - beta2)
            if step % group["period"] == 0:
                for root, factor in zip(roots, factors, strict=True):
                    corrected = factor / (1 - beta2**step)
                    root.copy_(inverse_root(corrected, 2 * g.ndim, EPS))
            if step >= group["period"]:
                preconditioned = m
                for root in roots:  # each moves the first dimension to the end
                    preconditioned = preconditioned.movedim(0, -1) @ root
                adam.copy_(preconditioned * (adam.norm() / (preconditioned.norm() + 1e-25)))
        p.mul_(1 - lr * group["weight_decay"])
        p.sub_(direction, alpha=lr)


class Caspr(Rule):
    """Steps of NAdam's length along L^(-1/2) m R^(-1/2) for a matrix m (in, out).

    Duvvuri et al., Combining Axes Preconditioners through Kronecker Approximation, 2024, in the
    adaptive form of the submission: L averages g g^T, and R averages h^T h / rows, where h is
    L^(-1/2) g. After L^(-1/2) is recomputed, R is multiplied by trace(L^(-1/2) K L^(-1/2)) / rows,
    where K is the L of the previous time.

    Roots are computed every 20 steps and used from step 102 on. Steps of vectors are NAdam's.
    """

    START, PERIOD, RIDGE = 101, 20, 1e-6

    def init_state(self, p: Tensor) -> State:
        state: State = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        if p.ndim > 1:
            shapes = [block.shape for block in blocks(p.flatten(1).T, BLOCK_SIZE)]
            left = [torch.eye(rows).to(p) for rows, _ in shapes]
            right = [torch.eye(columns).to(p) for _, columns in shapes]
            state["left"] = [self.RIDGE * eye for eye in left]
            state["earlier_left"] = [self.RIDGE * eye for eye in left]
            state["left_root"] = left
            state["right"], state["right_root"] = right, [eye.clone() for eye in right]
        return state

    def update(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        lr, step = group["lr"], state["step"]
        ahead, direction = nadam(gradient, state, group)
        if p.ndim > 1:
            for number, g in enumerate(blocks(gradient.flatten(1).T, BLOCK_SIZE)):
                self._update_factors(number, g, state, group["betas"][1])
            if step > self.START:
                preconditioned = torch.empty_like(ahead.flatten(1).T)
                pieces = (blocks(t, BLOCK_SIZE) for t in (preconditioned, ahead.flatten(1).T))
                for target, m, left, right in zip(
                    *pieces, state["left_root"], state["right_root"], strict=True
                ):
                    target.copy_(left @ m @ right)
                # A gradient that was always zero has no direction.
                length = preconditioned.norm().clamp(min=1e-30)
                direction = preconditioned.T.reshape(p.shape) * (direction.norm() / length)
        p.mul_(1 - lr * group["weight_decay"])
        p.sub_(direction, alpha=lr)

    def _update_factors(self, number: int, g: Tensor, state: State, beta2: float) -> None:
        step, rows = state["step"], len(g)
        left, right, earlier, left_root, right_root = (
            state[name][number]
            for name in ("left", "right", "earlier_left", "left_root", "right_root")
        )
        if step > 1 and (step - 1) % self.PERIOD == 0:
            largest = torch.linalg.eigvalsh(earlier)[-1]
            regular = earlier + self.RIDGE * largest * torch.eye(rows).to(earlier)
            right.mul_((left_root @ regular @ left_root).trace().clamp(min=0) / rows)
            earlier.copy_(left)
        left.mul_(beta2).addmm_(g, g.T, alpha=1 - beta2)
        h = left_root @ g
        right.mul_(beta2).addmm_(h.T, h, alpha=(1 - beta2) / rows)
        if step % self.PERIOD == 0:
            for root, factor in ((left_root, left), (right_root, right)):
                largest = torch.linalg.eigvalsh(factor)[-1]
                root.copy_(inverse_root(factor, 2, self.RIDGE * largest))


def nadam(gradient: Tensor, state: State, group: Group) -> tuple[Tensor, Tensor]:
    """NAdam's bias-corrected momentum and NAdam's direction, both of the gradient's shape."""
    (beta1, beta2), step = group["betas"], state["step"]
    m = state["exp_avg"].lerp_(gradient, 1 - beta1)
    v = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    ahead = (m.lerp(gradient, 1 - beta1) / (1 - beta1**step)).contiguous()
    return ahead, ahead / ((v / (1 - beta2**step)).sqrt() + EPS)


def merged(tensor: Tensor, size: int) -> Tensor:
    """`tensor` without dimensions of 1, neighbours merged while their product is at most `size`."""
    lengths: list[int] = []
    for length in tensor.shape:
        if length == 1:
            continue
        if lengths and lengths[-1] * length <= size:
            lengths[-1] *= length
        else:
            lengths.append(length)
    return tensor.reshape(lengths or [1])


def blocks(tensor: Tensor, size: int) -> Sequence[Tensor]:
    """Views of blocks that are at most `size` long in every dimension."""
    pieces: Sequence[Tensor] = [tensor]
    for axis in range(tensor.ndim):
        pieces = [part for piece in pieces for part in piece.split(size, axis)]
    return pieces


def inverse_root(matrix: Tensor, root: int, ridge: float | Tensor) -> Tensor:
    """(matrix + ridge I)^(-1/root) of a symmetric matrix, positive semidefinite up to rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    values = values - values.min().clamp(max=0) + ridge
    return vectors * values ** (-1 / root) @ vectors.T


def shampoo(model: nn.Module, num_steps: int) -> Built:
    """Distributed Shampoo, the fifth of its five points, which together scored .7784 in v0.5.

    Deviations: no label smoothing of .1; the workload's own dropout instead of none. With roots
    every 100 steps, a run computes them some twenty times here and hundreds of times there.
    """
    optimizer = Shampoo(
        model.parameters(),
        lr=LR,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
        block_size=BLOCK_SIZE,
        period=100,
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.1), None


def caspr(model: nn.Module, num_steps: int) -> Built:
    """CASPR, the first of its five points, which together scored .4722 in v0.5.

    The learning rate falls in three cosines to zero, see `nested_cosines`.
    Deviations: no label smoothing of .1; the workload's own dropout instead of none; roots are
    computed from eigenvalues and not by Newton's iteration, which keeps the old root if it fails;
    the matrix of an embedding is transposed, (out, in).
    """
    optimizer = Caspr(model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
    steps = horizon.algoperf_steps(num_steps)
    schedule = schedules.from_factors(nested_cosines(steps, warmup=0.1), end=0.0)
    return optimizer, schedules.ScheduleLR(optimizer, schedule), None


def nested_cosines(steps: int, warmup: float) -> list[float]:
    """Factors of the learning rate, one per step: three cosines to zero after a warm-up.

    They end at .536, .75 and 1 of the steps. The second and the third start from the value that a
    single cosine over all steps would have there.
    """
    first, second = 0.53571619898 * steps, 0.75 * steps

    def fall(step: float, start: float, end: float) -> float:
        return (1 + cos(pi * min(1, (step - start) / (end - start)))) / 2

    def at(step: int) -> float:
        rise = round(warmup * first)
        if step < rise:
            return (step + 1) / (rise + 1)
        if step < first:
            return fall(step, rise, first)
        begin, end = (first, second) if step < second else (second, steps)
        return fall(begin, warmup * steps, steps) * fall(step, begin, end)

    return [at(step) for step in range(steps)]


PUBLISHED = (
    Method(
        "shampoo",
        "Shampoo grafted on NAdam, lr .00130821, betas .9731334/.998123, blocks of 1024, roots "
        "every 100 steps, cosine over 4/3 x after 10 % warm-up",
        "decoupled .1638 x lr, all parameters, as the submission",
        shampoo,
    ),
    Method(
        "caspr",
        "CASPR grafted on NAdam, lr .00130821, betas .9731334/.998123, blocks of 1024, roots "
        "every 20 steps, three cosines over 4/3 x after warm-up",
        "decoupled .1638 x lr, all parameters, as the submission",
        caspr,
    ),
)
