"""Prodigy and D-Adaptation: learning rates from an estimated distance to the solution."""

from torch import nn

from selftune import optim, schedules

from .method import Built, Method


def prodigy(model: nn.Module, num_steps: int) -> Built:
    """The paper's defaults and its recommended schedule."""
    optimizer = optim.Prodigy(model.parameters())
    return optimizer, schedules.ScheduleLR(optimizer, schedules.cosine(num_steps)), None


def dadapt_adam(model: nn.Module, num_steps: int) -> Built:
    """The paper's defaults with a cosine schedule."""
    optimizer = optim.DAdaptAdam(model.parameters())
    return optimizer, schedules.ScheduleLR(optimizer, schedules.cosine(num_steps)), None


PRODIGY = Method(
    "prodigy",
    "Prodigy, lr 1, betas .9/.999, d0 1e-6, cosine",
    "none, the paper's default",
    prodigy,
)
DADAPT_ADAM = Method(
    "dadapt_adam",
    "D-Adapt Adam, lr 1, betas .9/.999, d0 1e-6, cosine",
    "none, the paper's default",
    dadapt_adam,
)
