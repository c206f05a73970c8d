"""Parts of both speech models: their first layers, and BatchNorm that ignores padding."""

import torch
from einops import rearrange
from torch import Tensor, nn

from .speech import NUM_MELS, frame_mask


class Subsampling(nn.Module):
    """Two convolutions over time and mels: half as many frames, a quarter of the mels.

    Returns (batch, time, width), zero at padding, and the new frame counts. AlgoPerf halves time
    twice, from 100 frames per second; this data starts at 50 frames. Both end at 25.
    """

    def __init__(self, width: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, kernel_size=3, stride=(2, 2), padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, stride=(1, 2), padding=1)
        self.project = nn.Linear(channels * NUM_MELS // 4, width)
        self.dropout = nn.Dropout(dropout)
        self.apply(xavier)

    def forward(self, frames: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        counts = (frame_counts + 1) // 2
        x = rearrange(frames, "batch time mels -> batch 1 time mels")
        x = self.first(x).relu()  # (batch, channels, time, mels)
        mask = frame_mask(counts, x.shape[2])
        x = self.second(x * rearrange(mask, "batch time -> batch 1 time 1")).relu()
        x = self.project(rearrange(x, "batch channels time mels -> batch time (channels mels)"))
        return self.dropout(x) * mask.unsqueeze(-1), counts


def on_frames(norm: nn.BatchNorm1d, x: Tensor, mask: Tensor) -> Tensor:
    """Apply `norm` to the frames only, so that its statistics ignore padding, which becomes 0."""
    return torch.zeros_like(x).masked_scatter(mask.unsqueeze(-1), norm(x[mask]))


def xavier(module: nn.Module) -> None:
    """Initialise one module as AlgoPerf does; for `nn.Module.apply`."""
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
