"""One encoder per language: the mean of the units' embeddings, then a perceptron."""

from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

NUM_UNITS = 2000
PAD = 0
WIDTH = 96
TEMPERATURE = 0.07  # initial value; learned, as in CLIP


class Tower(nn.Module):
    """Maps sentences (sentences, positions) to embeddings (sentences, WIDTH) of norm 1."""

    def __init__(self):
        super().__init__()
        self.embed = nn.EmbeddingBag(NUM_UNITS, WIDTH, mode="mean", padding_idx=PAD)
        self.project = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, units: Tensor) -> Tensor:
        return normalize(self.project(self.embed(units)), dim=-1)


class Towers(nn.Module):
    """Maps (german, positions) and (english, positions) to similarities (german, english)."""

    def __init__(self):
        super().__init__()
        self.german, self.english = Tower(), Tower()
        self.log_scale = nn.Parameter(torch.tensor(-log(TEMPERATURE)))

    def forward(self, german: Tensor, english: Tensor) -> Tensor:
        return self.log_scale.exp() * self.german(german) @ self.english(english).T
