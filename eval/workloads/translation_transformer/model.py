"""A pre-norm encoder-decoder Transformer with one embedding for source, target and output.

Vaswani et al., Attention Is All You Need, 2017. https://arxiv.org/abs/1706.03762
"""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

PAD, END = 0, 1  # PAD also precedes every target

# The model multiplies the embedding by this number. At AlgoPerf's 1, a few thousand steps with a
# learning rate that suits the other weights would hardly change it.
EMBEDDING_SCALE = 32

KeyValue = tuple[Tensor, Tensor]  # each (sentence, head, position, channel)


class Past(NamedTuple):
    """Keys and values that a decoder layer keeps from one position to the next."""

    target: KeyValue  # of the target positions so far
    source: KeyValue  # of the source sentence


class Transformer(nn.Module):
    """AlgoPerf's Transformer, smaller, and with `EMBEDDING_SCALE`."""

    def __init__(
        self,
        num_units: int = 2000,
        width: int = 96,
        hidden_width: int = 96,
        num_heads: int = 4,
        num_layers: int = 1,
        dropout: float = 0.1,
        max_length: int = 128,
    ):
        super().__init__()
        layer = width, hidden_width, num_heads, dropout
        self.embedding = nn.Embedding(num_units, width)
        self.dropout = Dropout(dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(num_layers))
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(num_layers))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(max_length, width), persistent=False)
        self.apply(_initialise)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (sentence, position, unit) of each target unit, given source and earlier units.

        source, target: (sentence, position), padded with PAD.
        """
        encoded, mask = self._encode(source), padding_mask(source)
        x = self._embed(F.pad(target, (1, -1), value=PAD))
        for layer in self.decoder:
            x, _ = layer(x, encoded, mask)
        return self._logits(x)

    def translate(self, source: Tensor, limit: int) -> Tensor:
        """Greedy decoding until all sentences have ended or have `limit` units.

        Returns units (sentence, position), PAD after the end of a sentence.
        """
        encoded, mask = self._encode(source), padding_mask(source)
        pasts: list[Past | None] = [None] * len(self.decoder)
        unit = source.new_full((len(source), 1), PAD)
        ended = torch.zeros_like(unit, dtype=torch.bool)
        units = []
        for position in range(limit):
            x = self._embed(unit, position)
            for number, layer in enumerate(self.decoder):
                x, pasts[number] = layer(x, encoded, mask, pasts[number])
            unit = self._logits(x).argmax(-1).masked_fill(ended, PAD)  # (sentence, 1)
            units.append(unit)
            ended |= unit <= END
            if ended.all():
                break
        return torch.cat(units, dim=1)

    def _encode(self, source: Tensor) -> Tensor:
        x, mask = self._embed(source), padding_mask(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x)  # (sentence, position, channel)

    def _embed(self, units: Tensor, first_position: int = 0) -> Tensor:
        positions = self.positions[first_position : first_position + units.shape[1]]
        return self.dropout(EMBEDDING_SCALE * self.embedding(units) + positions)

    def _logits(self, x: Tensor) -> Tensor:
        scale = EMBEDDING_SCALE / math.sqrt(x.shape[-1])
        return F.linear(scale * self.decoder_norm(x), self.embedding.weight)


class EncoderLayer(nn.Module):
    def __init__(self, width: int, hidden_width: int, num_heads: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, num_heads)
        self.dropout = Dropout(dropout)
        self.feed_forward = feed_forward(width, hidden_width, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.attention_norm(x)
        x = x + self.dropout(self.attention(y, self.attention.key_value(y), mask))
        return x + self.feed_forward(x)


class DecoderLayer(nn.Module):
    def __init__(self, width: int, hidden_width: int, num_heads: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, num_heads)
        self.cross_attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.cross_attention = Attention(width, num_heads)
        self.dropout = Dropout(dropout)
        self.feed_forward = feed_forward(width, hidden_width, dropout)

    def forward(
        self, x: Tensor, encoded: Tensor, mask: Tensor, past: Past | None = None
    ) -> tuple[Tensor, Past]:
        """The output, and the `past` for the call with the next position.

        x: all positions or, if there is a `past`, only the position after it.
        """
        y = self.attention_norm(x)
        target = key, value = self.attention.key_value(y)
        if past is None:
            source = self.cross_attention.key_value(encoded)
        else:
            keys, values = past.target
            target = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
            source = past.source
        x = x + self.dropout(self.attention(y, target, causal=past is None))
        y = self.cross_attention_norm(x)
        x = x + self.dropout(self.cross_attention(y, source, mask))
        return x + self.feed_forward(x), Past(target, source)


class Attention(nn.Module):
    """Multi-head attention without biases, as in AlgoPerf, but also without attention dropout."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def key_value(self, x: Tensor) -> KeyValue:
        key, value = rearrange(
            self.to_key_value(x), "b t (two h c) -> two b h t c", two=2, h=self.num_heads
        )
        return key, value

    def forward(
        self, x: Tensor, key_value: KeyValue, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        query = rearrange(self.to_query(x), "b t (h c) -> b h t c", h=self.num_heads)
        y = F.scaled_dot_product_attention(query, *key_value, attn_mask=mask, is_causal=causal)
        return self.output(rearrange(y, "b h t c -> b t (h c)"))


class Dropout(nn.Module):
    """Dropout with one mask for all positions of a sentence, as in T5.

    Drawing a mask for every position takes a fifth of the step's time on a CPU.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * F.dropout(x.new_ones(len(x), 1, x.shape[-1]), self.rate)


def feed_forward(width: int, hidden_width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width, eps=1e-6),
        nn.Linear(width, hidden_width),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(hidden_width, width),
        Dropout(dropout),
    )


def padding_mask(source: Tensor) -> Tensor:
    """(sentence, 1, 1, position): True where attention may look."""
    return rearrange(source != PAD, "sentence position -> sentence 1 1 position")


def sinusoids(max_length: int, width: int) -> Tensor:
    """Position embeddings (position, channel): sines in the first half, cosines in the second."""
    rates = 1e4 ** -torch.linspace(0, 1, width // 2)
    angles = torch.arange(max_length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=1 / EMBEDDING_SCALE)
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.normal_(module.bias, std=1e-6)
