"""Lion: the sign of an interpolated momentum."""

import torch
from torch import Tensor, nn

from . import horizon
from .method import Built, Method
from .rule import Group, Rule, State


class Lion(Rule):
    """Chen et al., Symbolic Discovery of Optimization Algorithms, 2023, Algorithm 2.

    https://arxiv.org/abs/2302.06675
    """

    def init_state(self, p: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(p)}

    def update(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(state["exp_avg"].lerp(gradient, 1 - beta1).sign_(), alpha=-lr)
        state["exp_avg"].lerp_(gradient, 1 - beta2)


def lion(model: nn.Module, num_steps: int) -> Built:
    """mlcommons/submissions_algorithms, branch a100_scoring, submissions/self_tuning/lion.

    AlgoPerf score .2783 on A100s. Deviation: the workload's own dropout instead of .1.
    """
    optimizer = Lion(model.parameters(), lr=2e-4, betas=(0.95, 0.98), weight_decay=0.5)
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.02), None


PUBLISHED = (
    Method(
        "lion",
        "Lion, lr .0002, betas .95/.98, cosine over 4/3 x after 2 % warm-up",
        "decoupled .5 x lr, all parameters, as the submission",
        lion,
    ),
)
