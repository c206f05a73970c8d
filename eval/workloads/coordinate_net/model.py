"""A multilayer perceptron with sine activations (SIREN).

Sitzmann et al., Implicit Neural Representations with Periodic Activation Functions, 2020.
https://arxiv.org/abs/2006.09661
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

# omega_0. The paper uses 30, for images with several times as many pixels per side.
FREQUENCY = 15.0
WIDTHS = (2, 48, 48, 48, 3)


class Siren(nn.Module):
    """Maps coordinates (pixels, 2) to colours (pixels, 3); the last layer is linear."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*widths) for widths in pairwise(WIDTHS))
        # Section 3.2: with these bounds, the input of every sine but the first has variance 1.
        for index, layer in enumerate(self.layers):
            inputs = WIDTHS[index]
            bound = 1 / inputs if index == 0 else (6 / inputs) ** 0.5 / FREQUENCY
            nn.init.uniform_(layer.get_parameter("weight"), -bound, bound)

    def forward(self, places: Tensor) -> Tensor:
        hidden = places
        for layer in self.layers[:-1]:
            hidden = torch.sin(FREQUENCY * layer(hidden))
        return self.layers[-1](hidden)
