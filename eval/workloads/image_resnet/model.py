"""A residual network with batch normalisation."""

from einops import reduce
from torch import Tensor, nn
from torch.nn import functional as F

from ..images import NUM_CLASSES
from ..initialisation import lecun_normal_


class ResNet(nn.Module):
    """He et al., Deep Residual Learning for Image Recognition, 2015, blocks without bottleneck.

    https://arxiv.org/abs/1512.03385

    Every stage but the first halves the image. Each block starts as its shortcut alone, because
    the scale of its last normalisation starts at zero (Goyal et al., 2017,
    https://arxiv.org/abs/1706.02677).
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64), blocks_per_stage: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        blocks = []
        for stage, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            for index in range(blocks_per_stage):
                first = index == 0
                stride = 2 if first and stage > 0 else 1
                blocks.append(Block(before if first else width, width, stride))
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(widths[-1], NUM_CLASSES)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, 1, SIZE, SIZE). Returns logits (batch, NUM_CLASSES)."""
        features = self.blocks(self.stem(images))  # (batch, channel, row, column)
        return self.output(reduce(features, "batch channel row column -> batch channel", "mean"))


class Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))


def _initialise(module: nn.Module) -> None:
    """Initialise one module as AlgoPerf does; for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d):
        lecun_normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Block):
        last = module.residual[-1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)
