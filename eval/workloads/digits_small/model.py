"""Two convolutions and two linear layers: 72,000 parameters for 200 training images."""

from torch import nn

from .data import NUM_CLASSES, SIZE

CHANNELS = (16, 32)
WIDTH = 128


def network() -> nn.Module:
    """A module that maps (images, 1, SIZE, SIZE) to logits (images, NUM_CLASSES)."""
    first, second = CHANNELS
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * (SIZE // 2) ** 2, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, NUM_CLASSES),
    )
