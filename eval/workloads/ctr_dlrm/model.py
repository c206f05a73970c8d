"""DLRM: a perceptron for the numbers, embeddings for the ids, and the dot products of all pairs.

Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems,
2019. https://arxiv.org/abs/1906.00091
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .data import NUM_NUMBERS, VOCABULARY


class DLRM(nn.Module):
    """One table holds the embeddings of all columns one after the other, as in AlgoPerf."""

    def __init__(
        self,
        width: int = 16,
        bottom: Sequence[int] = (128, 64),
        top: Sequence[int] = (384, 384, 192),
    ):
        super().__init__()
        self.embed = nn.Embedding(sum(VOCABULARY.values()), width)
        self.bottom = nn.Sequential(*_layers(NUM_NUMBERS, *bottom, width), nn.ReLU())
        num_vectors = 1 + len(VOCABULARY)
        num_pairs = num_vectors * (num_vectors + 1) // 2  # including each vector with itself
        self.top = nn.Sequential(*_layers(num_pairs + width, *top, 1))
        self.register_buffer("pairs", torch.triu_indices(num_vectors, num_vectors), False)
        nn.init.uniform_(self.embed.weight, 0, self.embed.num_embeddings**-0.5)

    def forward(self, numbers: Tensor, ids: Tensor) -> Tensor:
        """Logits (batch,). numbers: (batch, 13); ids: (batch, 13)."""
        dense = self.bottom(numbers)  # (batch, width)
        vectors = torch.cat([dense[:, None], self.embed(ids)], dim=1)  # (batch, vectors, width)
        dots = vectors @ vectors.mT  # (batch, vectors, vectors)
        one, other = self.get_buffer("pairs")
        return self.top(torch.cat([dense, dots[:, one, other]], dim=1)).squeeze(1)  # (batch,)


def _layers(*widths: int) -> list[nn.Module]:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.xavier_normal_(linear.weight)
        nn.init.normal_(linear.bias, std=outputs**-0.5)
        layers += [linear, nn.ReLU()]
    return layers[:-1]
