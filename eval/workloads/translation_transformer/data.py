"""German user-interface sentences to translate into English; the metric is BLEU."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ...data import read
from ...data.byte_pairs import decode
from ...workload import Arrays, Batch, Splits
from .model import END, PAD, Transformer

LENGTH_NOISE = 4  # units: largest random number added to lengths when sorting into batches
EVALUATION_BATCH = 64
LONGER = 2  # units by which a translation may exceed the longest source sentence of its batch


def load() -> Splits:
    """Sentences sorted from the shortest to the longest German one, padded with PAD.

    source, target: (sentence, position). Validation and test also have `units`, the text of each
    unit, and `references`, the English sentences.
    """
    arrays = read("sentences")

    def split(name: str) -> Arrays:
        order = np.argsort(arrays[f"{name}_german_length"], kind="stable")
        source, target = (
            _padded(arrays[f"{name}_{language}"], arrays[f"{name}_{language}_length"])[order]
            for language in ("german", "english")
        )
        if name == "train":
            return {"source": source, "target": target}
        references = arrays[f"{name}_reference"][order].tolist()
        units = arrays["units"].tolist()
        return {"source": source, "target": target, "units": units, "references": references}

    return Splits(split("train"), split("validation"), split("test"))


def _padded(units: np.ndarray, lengths: np.ndarray) -> Tensor:
    """The sentences (sentence, position), padded with PAD. units: (all units,)."""
    rows = torch.from_numpy(units.astype(np.int64)).split(lengths.tolist())
    return pad_sequence(list(rows), batch_first=True, padding_value=PAD)


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(source, target) of sentences of similar length, padded to the longest of the batch."""
    source, target = train["source"], train["target"]
    source_lengths, target_lengths = (_lengths(units).cpu() for units in (source, target))
    num_batches = len(source) // batch_size
    while True:
        members = torch.randperm(len(source), generator=generator)[: num_batches * batch_size]
        noise = LENGTH_NOISE * torch.rand(len(members), generator=generator)
        members = members[(source_lengths + target_lengths)[members].add(noise).argsort()]
        batches = rearrange(members, "(batch member) -> batch member", member=batch_size)
        for batch in batches[torch.randperm(num_batches, generator=generator)]:
            longest_source = int(source_lengths[batch].max())
            longest_target = int(target_lengths[batch].max())
            batch = batch.to(source.device)
            yield source[batch, :longest_source], target[batch, :longest_target]


def _lengths(units: Tensor) -> Tensor:
    """(sentence,): the number of units that are not padding."""
    return (units != PAD).sum(dim=1)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of the target units, including the end of each sentence."""
    source, target = batch
    logits = model(source, target)  # (sentence, position, unit)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """BLEU of greedy translations, from 0 to 100."""
    from sacrebleu import corpus_bleu  # imported here to start commands faster

    translations = []
    for source in split["source"].split(EVALUATION_BATCH):
        longest = int(_lengths(source).max())
        output = cast(Transformer, model).translate(source[:, :longest], longest + LONGER)
        translations += [text(units, split["units"]) for units in output.tolist()]
    # force=True only keeps sacrebleu from logging a guess that the translations are tokenised.
    return corpus_bleu(translations, [split["references"]], force=True).score


def text(sentence: list[int], units: list[str]) -> str:
    """The text of a sentence up to its end or, if it has none, of all its units."""
    end = next((place for place, unit in enumerate(sentence) if unit <= END), len(sentence))
    return decode([units[unit] for unit in sentence[:end]])
