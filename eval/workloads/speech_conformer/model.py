"""A Conformer encoder with a linear output layer for CTC."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..speech import NUM_CLASSES, frame_mask
from ..speech_layers import Subsampling, on_frames, xavier


class Conformer(nn.Module):
    """Gulati et al., Conformer, 2020, with absolute positions as in AlgoPerf.

    https://arxiv.org/abs/2005.08100
    """

    def __init__(
        self,
        width: int = 64,
        num_blocks: int = 2,
        num_heads: int = 4,
        expansion: int = 2,
        kernel_size: int = 9,
        channels: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.subsampling = Subsampling(width, channels, dropout)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, expansion, kernel_size, dropout) for _ in range(num_blocks)
        )
        self.output = nn.Linear(width, NUM_CLASSES)
        self.apply(xavier)

    def forward(self, frames: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, time, NUM_CLASSES), and the time steps (batch,) that are not padding."""
        x, counts = self.subsampling(frames, frame_counts)
        mask = frame_mask(counts, x.shape[1])
        x = x + sinusoids(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(x), counts


class Block(nn.Module):
    """Self-attention and convolution between two half-step feed-forward layers."""

    def __init__(
        self, width: int, num_heads: int, expansion: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.feed_forward = feed_forward(width, expansion, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.convolution = Convolution(width, kernel_size, dropout)
        self.second_feed_forward = feed_forward(width, expansion, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + 0.5 * self.feed_forward(x)
        y = self.attention_norm(x)
        attended, _ = self.attention(y, y, y, key_padding_mask=~mask, need_weights=False)
        x = x + self.dropout(attended)
        x = x + self.convolution(x, mask)
        return self.norm(x + 0.5 * self.second_feed_forward(x))


class Convolution(nn.Module):
    """A gated pointwise convolution, a depthwise one over time, BatchNorm, a pointwise one."""

    def __init__(self, width: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(
            width, width, kernel_size, padding="same", groups=width, bias=False
        )
        self.batch_norm = nn.BatchNorm1d(width)
        self.pointwise = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = F.glu(self.gated(self.norm(x))) * mask.unsqueeze(-1)
        x = self.depthwise(rearrange(x, "batch time width -> batch width time"))
        x = on_frames(self.batch_norm, rearrange(x, "batch width time -> batch time width"), mask)
        return self.dropout(self.pointwise(F.silu(x)))


def feed_forward(width: int, expansion: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, expansion * width),
        nn.SiLU(),
        nn.Linear(expansion * width, width),
        nn.Dropout(dropout),
    )


def sinusoids(x: Tensor) -> Tensor:
    """Position embeddings (time, width): sines and cosines of periods 2 pi to 20,000 pi frames."""
    time, width = x.shape[1:]
    octaves = torch.linspace(0, 1, width // 2, device=x.device)
    angle = torch.arange(time, device=x.device).unsqueeze(1) * torch.exp(-math.log(1e4) * octaves)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
