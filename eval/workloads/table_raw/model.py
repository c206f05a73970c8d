"""Linear layers and ReLU, as PyTorch initialises them; nothing normalises the input."""

from torch import nn

from .data import NUM_INPUTS

WIDTH = 128


def perceptron() -> nn.Module:
    """(flights, NUM_INPUTS) -> (flights, 1)"""
    return nn.Sequential(
        nn.Linear(NUM_INPUTS, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 1),
    )
