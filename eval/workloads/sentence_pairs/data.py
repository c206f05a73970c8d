"""Pairs of German and English user-interface sentences."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from ...data import read
from ...workload import Arrays, Batch, Splits
from ..shuffled import shuffled
from .model import PAD


def load() -> Splits:
    """german, english (sentences, positions): byte-pair units, padded with PAD."""
    arrays = read("sentences")

    def split(name: str) -> Arrays:
        return {
            language: _padded(arrays[f"{name}_{language}"], arrays[f"{name}_{language}_length"])
            for language in ("german", "english")
        }

    return Splits(split("train"), split("validation"), split("test"))


def _padded(units: np.ndarray, lengths: np.ndarray) -> Tensor:
    """The sentences (sentences, positions), padded with PAD. units: (all units,)."""
    rows = torch.from_numpy(units.astype(np.int64)).split(lengths.tolist())
    return pad_sequence(list(rows), batch_first=True, padding_value=PAD)


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(german, english), each (batch, positions); a row of one translates that of the other."""
    return shuffled((train["german"], train["english"]), batch_size, generator)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of finding each sentence's translation in the batch, both directions.

    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021,
    figure 3. https://arxiv.org/abs/2103.00020
    """
    similarities = model(*batch)  # (german, english)
    pairs = torch.arange(len(similarities), device=similarities.device)
    return (cross_entropy(similarities, pairs) + cross_entropy(similarities.T, pairs)) / 2


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean reciprocal rank of each German sentence's translation among all English sentences.

    Ties and NaN count against the model, so that a constant or broken model is not rewarded.
    """
    similarities = model(split["german"], split["english"])
    worse = similarities < similarities.diagonal()[:, None]
    ranks = len(similarities) - worse.sum(dim=1)
    return ranks.double().reciprocal().mean().item()
