"""A decoder-only transformer."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..initialisation import lecun_normal_

CONTEXT = 64  # bytes that a prediction can use
NUM_BYTES = 128  # the text is ASCII


class GPT(nn.Module):
    """Radford et al., Language models are unsupervised multitask learners, 2019 (GPT-2).

    Pre-norm, learned positions, output weights shared with the embedding. As in GPT-2, the
    initial weights of layers that write into the residual stream are divided by the square root
    of the number of such layers. Weights start with variance 1 / fan_in, because GPT-2's standard
    deviation of .02 suits only widths of about a thousand.
    """

    def __init__(self, width: int = 64, num_blocks: int = 2, num_heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_BYTES, width)
        self.positions = nn.Parameter(torch.empty(CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_blocks)))
        self.norm = nn.LayerNorm(width)
        self.apply(_initialise)
        nn.init.normal_(self.positions, std=width**-0.5)
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.attention.output, block.narrow):
                layer.weight.data /= (2 * num_blocks) ** 0.5

    def forward(self, text: Tensor) -> Tensor:
        """Logits (window, position, byte) of the byte that follows each position.

        text: (window, position), at most CONTEXT positions.
        """
        x = self.embedding(text) + self.positions[: text.shape[1]]
        x = self.norm(self.blocks(x))
        return F.linear(x, self.embedding.weight)


class Block(nn.Module):
    """Causal attention and feed-forward layers, pre-norm, each with a residual connection."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width, num_heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.narrow(F.gelu(self.widen(self.feed_forward_norm(x))))


class CausalAttention(nn.Module):
    """Multi-head self-attention of each position to itself and the positions before it."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = rearrange(
            self.query_key_value(x),
            "window position (three head d) -> three window head position d",
            three=3,
            head=self.num_heads,
        )
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(rearrange(seen, "window head position d -> window position (head d)"))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        lecun_normal_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
