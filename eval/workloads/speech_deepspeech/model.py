"""Bidirectional LSTMs with batch normalisation and a linear output layer for CTC."""

import torch
from einops import repeat
from torch import Tensor, nn

from ..speech import NUM_CLASSES, frame_mask
from ..speech_layers import Subsampling, on_frames


class DeepSpeech(nn.Module):
    """Amodei et al., Deep Speech 2, 2015, with residual connections as in AlgoPerf.

    https://arxiv.org/abs/1512.02595
    """

    def __init__(
        self,
        width: int = 96,
        num_recurrent: int = 3,
        num_feed_forward: int = 2,
        channels: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.subsampling = Subsampling(width, channels, dropout)
        self.recurrent = nn.ModuleList(Recurrent(width) for _ in range(num_recurrent))
        self.feed_forward = nn.ModuleList(
            FeedForward(width, dropout) for _ in range(num_feed_forward)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, NUM_CLASSES)

    def forward(self, frames: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, time, NUM_CLASSES), and the time steps (batch,) that are not padding."""
        x, counts = self.subsampling(frames, frame_counts)
        mask = frame_mask(counts, x.shape[1])
        reversal = reversing_index(counts, x)
        for layer in self.recurrent:
            x = x + layer(x, mask, reversal)
        for layer in self.feed_forward:
            x = x + layer(x, mask)
        return self.output(self.norm(x)), counts


class Recurrent(nn.Module):
    """A bidirectional LSTM, made of one LSTM for each direction.

    The backward LSTM starts at the last frame of every segment, not at its padding. Packed
    sequences do the same, but take three times as long on a CPU.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.forwards = nn.LSTM(width, width // 2, batch_first=True)
        self.backwards = nn.LSTM(width, width // 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor, reversal: Tensor) -> Tensor:
        x = on_frames(self.norm, x, mask)
        past, _ = self.forwards(x)
        future, _ = self.backwards(x.gather(1, reversal))
        future = future.gather(1, reversal[..., : future.shape[-1]])
        return torch.cat([past, future], dim=-1) * mask.unsqueeze(-1)


class FeedForward(nn.Module):
    """BatchNorm, a linear layer, ReLU and dropout; zero at padding."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.linear(on_frames(self.norm, x, mask)).relu()
        return self.dropout(x) * mask.unsqueeze(-1)


def reversing_index(counts: Tensor, x: Tensor) -> Tensor:
    """(batch, time, width): the index with which `gather` reverses each row's frames in time.

    Padding keeps its place.
    """
    place = torch.arange(x.shape[1], device=x.device)
    mirrored = counts.unsqueeze(1) - 1 - place  # (batch, time)
    index = torch.where(mirrored >= 0, mirrored, place)
    return repeat(index, "batch time -> batch time width", width=x.shape[2])
