"""Linear layers, each followed by BatchNorm and ReLU."""

from itertools import pairwise

from torch import nn

from .data import NUM_AIRLINES, NUM_INPUTS

WIDTHS = (NUM_INPUTS, 192, 192, 192)


def perceptron() -> nn.Module:
    """A module that maps (flights, NUM_INPUTS) to logits (flights, NUM_AIRLINES)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        # BatchNorm subtracts the mean, so that a bias would have no effect.
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], NUM_AIRLINES))
