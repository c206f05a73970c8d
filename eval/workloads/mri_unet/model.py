"""A U-Net."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..initialisation import lecun_normal_


class UNet(nn.Module):
    """Ronneberger, Fischer and Brox, U-Net, 2015, with the layers of fastMRI's baseline.

    https://arxiv.org/abs/1505.04597 and https://arxiv.org/abs/1811.08839
    """

    def __init__(self, channels: int = 8, num_pools: int = 3) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(num_pools + 1)]  # from fine to coarse
        pairs = list(pairwise(widths))
        self.encode = nn.ModuleList(convolutions(*pair) for pair in [(1, channels), *pairs])
        pairs.reverse()
        self.upsample = nn.ModuleList(upsampling(coarse, fine) for fine, coarse in pairs)
        self.decode = nn.ModuleList(convolutions(coarse, fine) for fine, coarse in pairs)
        self.output = nn.Conv2d(channels, 1, 1)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, height, width), multiples of 2**num_pools. Returns the same shape."""
        x = images.unsqueeze(1)  # (batch, channels, height, width)
        features = []
        for level, block in enumerate(self.encode):
            x = block(F.avg_pool2d(x, 2) if level > 0 else x)
            features.append(x)
        features.pop()
        for upsample, block in zip(self.upsample, self.decode, strict=True):
            x = block(torch.cat([upsample(x), features.pop()], dim=1))
        return self.output(x).squeeze(1)


def convolutions(before: int, width: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each normalised."""
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=False),
        *normalised(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        *normalised(width),
    )


def upsampling(before: int, width: int) -> nn.Sequential:
    """A transposed convolution that doubles height and width, normalised."""
    return nn.Sequential(
        nn.ConvTranspose2d(before, width, 2, stride=2, bias=False), *normalised(width)
    )


def normalised(width: int) -> tuple[nn.Module, nn.Module]:
    """Instance normalisation and leaky ReLU."""
    return nn.InstanceNorm2d(width), nn.LeakyReLU(0.2)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        lecun_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.ConvTranspose2d):
        lecun_normal_(module.weight.transpose(0, 1))
