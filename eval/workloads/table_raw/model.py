"""Linear layers and ReLU with PyTorch's initial weights and no normalisation of the input."""

from torch import nn

from .data import NUM_INPUTS

WIDTH = 128


def perceptron() -> nn.Module:
    """A module that maps (flights, NUM_INPUTS) to (flights, 1)."""
    return nn.Sequential(
        nn.Linear(NUM_INPUTS, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 1),
    )
