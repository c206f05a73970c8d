"""A deep autoencoder with a bottleneck."""

from itertools import pairwise

from torch import Tensor, nn

from ..images import SIZE
from ..initialisation import lecun_normal_


class Autoencoder(nn.Module):
    """Hinton and Salakhutdinov, Reducing the dimensionality of data with neural networks, 2006.

    https://doi.org/10.1126/science.1127647

    The encoder's layers narrow towards the code, which is linear; the decoder mirrors them.
    Hidden layers use tanh. There is no layer-by-layer pretraining.
    """

    def __init__(self, widths: tuple[int, ...] = (SIZE * SIZE, 256, 128, 64, 16)) -> None:
        super().__init__()
        self.encoder = _layers(widths)
        self.decoder = _layers(widths[::-1])

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, 1, SIZE, SIZE). Returns reconstructions of the same shape."""
        code = self.encoder(images.flatten(1))  # (batch, widths[-1])
        return self.decoder(code).view_as(images)


def _layers(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these widths with tanh between them."""
    layers: list[nn.Module] = []
    for before, width in pairwise(widths):
        linear = nn.Linear(before, width)
        lecun_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])  # the last layer is linear
