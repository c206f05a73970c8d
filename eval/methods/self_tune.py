"""SelfTune with its defaults, which does not use the length of the run."""

from torch import nn

from selftune import optim

from .method import Built, Method


def self_tune(model: nn.Module, num_steps: int) -> Built:
    """`SelfTune(model.parameters())`."""
    optimizer = optim.SelfTune(model.parameters())
    return optimizer, None, optimizer.evaluation_weights


SELF_TUNE = Method(
    "self_tune",
    "SelfTune, first lr .003, no horizon, no warm-up, no schedule",
    "decoupled .05 x eta, all parameters, the default",
    self_tune,
)
