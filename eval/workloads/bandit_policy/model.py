"""A multilayer perceptron whose softmax is the policy."""

from torch import nn

from .data import NUM_ARMS, NUM_INPUTS

WIDTH = 128


def policy() -> nn.Module:
    """A module that maps contexts (contexts, NUM_INPUTS) to logits (contexts, NUM_ARMS)."""
    return nn.Sequential(
        nn.Linear(NUM_INPUTS, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, NUM_ARMS),
    )
