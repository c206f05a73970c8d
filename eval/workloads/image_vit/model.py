"""A vision transformer."""

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from ..images import NUM_CLASSES, SIZE
from ..initialisation import lecun_normal_


class ViT(nn.Module):
    """Beyer et al., Better plain ViT baselines for ImageNet-1k, 2022.

    https://arxiv.org/abs/2205.01580

    Fixed position embeddings; the mean over patches in place of a class token.
    """

    positions: Tensor

    def __init__(
        self,
        patch: int = 7,
        width: int = 48,
        num_blocks: int = 4,
        num_heads: int = 4,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.register_buffer("positions", sinusoids_2d(SIZE // patch, width), persistent=False)
        self.blocks = nn.Sequential(
            *(Block(width, num_heads, expansion) for _ in range(num_blocks))
        )
        self.norm = nn.LayerNorm(width)
        self.representation = nn.Linear(width, width)
        self.output = nn.Linear(width, NUM_CLASSES)
        for layer in (self.patches, self.representation):
            lecun_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, 1, SIZE, SIZE). Returns logits (batch, NUM_CLASSES)."""
        patches = self.patches(images)
        x = rearrange(patches, "batch width row column -> batch (row column) width")
        x = self.norm(self.blocks(x + self.positions))
        pooled = reduce(x, "batch place width -> batch width", "mean")
        return self.output(torch.tanh(self.representation(pooled)))


class Block(nn.Module):
    """Attention and feed-forward layers, pre-norm, each with a residual connection."""

    def __init__(self, width: int, num_heads: int, expansion: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )
        self.feed_forward.apply(_xavier)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.apply(_xavier)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            rearrange(layer(x), "batch place (head d) -> batch head place d", head=self.num_heads)
            for layer in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.output(rearrange(seen, "batch head place d -> batch place (head d)"))


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def sinusoids_2d(side: int, width: int) -> Tensor:
    """Position embeddings (side * side, width): sines and cosines of column and row.

    Their periods range from 2 pi to 20,000 pi patches.
    """
    frequency = 1e4 ** -torch.linspace(0, 1, width // 4)
    angle = torch.arange(side).unsqueeze(1) * frequency  # (side, width / 4)
    waves = torch.cat([angle.sin(), angle.cos()], dim=1)  # (side, width / 2)
    across = waves.expand(side, side, -1)  # [row, column]: the waves of the column
    down = rearrange(across, "row column wave -> column row wave")
    return rearrange(torch.cat([across, down], dim=-1), "row column wave -> (row column) wave")
