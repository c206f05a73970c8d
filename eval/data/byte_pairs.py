"""Byte-pair encoding: subword units learned by merging the most frequent neighbours.

Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016.
https://arxiv.org/abs/1508.07909
A sentence is first split into pieces: words, single digits and single punctuation marks. The
first piece and every piece after a blank start with `SPACE`. Units never cross pieces. Joining
the units and replacing `SPACE` by a blank restores the sentence.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

SPACE = "▁"
Pair = tuple[str, str]

_PIECE = re.compile(rf"{SPACE}?(?:[^\W\d_]+|[\W\d_])")


def pieces(sentence: str) -> list[str]:
    """'Port 80.' -> ['▁Port', '▁8', '0', '.']"""
    return _PIECE.findall(SPACE + sentence.replace(" ", SPACE))


def learn(sentences: Iterable[str], num_merges: int) -> list[Pair]:
    """The pairs of units to merge, in order; ties go to the alphabetically first pair."""
    counts = Counter(piece for sentence in sentences for piece in pieces(sentence))
    words = {piece: list(piece) for piece in counts}
    frequency: Counter[Pair] = Counter()
    found_in: defaultdict[Pair, set[str]] = defaultdict(set)
    for piece, units in words.items():
        for pair in pairwise(units):
            frequency[pair] += counts[piece]
            found_in[pair].add(piece)
    merges = []
    for _ in range(num_merges):
        best = min(frequency, key=lambda pair: (-frequency[pair], pair))
        merges.append(best)
        for piece in found_in.pop(best):
            for pair in pairwise(words[piece]):
                frequency[pair] -= counts[piece]
            words[piece] = _merged(words[piece], best)
            for pair in pairwise(words[piece]):
                frequency[pair] += counts[piece]
                found_in[pair].add(piece)
        del frequency[best]
    return merges


def encode(sentence: str, rank: dict[Pair, int]) -> list[str]:
    """The units of a sentence; the pair of lowest rank is merged first."""
    return [unit for piece in pieces(sentence) for unit in _encode_piece(piece, rank)]


def decode(units: Sequence[str]) -> str:
    """The sentence that these units make up."""
    return "".join(units).replace(SPACE, " ").strip()


def _encode_piece(piece: str, rank: dict[Pair, int]) -> list[str]:
    units = list(piece)
    while known := [pair for pair in pairwise(units) if pair in rank]:
        units = _merged(units, min(known, key=rank.__getitem__))
    return units


def _merged(units: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for unit in units:
        if merged and (merged[-1], unit) == pair:
            merged[-1] += unit
        else:
            merged.append(unit)
    return merged
