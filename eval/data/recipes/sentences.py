"""German and English user-interface sentences as byte-pair units.

User interfaces are full of near-duplicates; no validation or test sentence has one in training.
The units are learned from the training sentences of both languages.
"""

import json
import random
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from ..byte_pairs import SPACE, encode, learn
from . import Source

SOURCE = Source(
    packages=("pip:homeassistant==2024.3.3",),
    licence="Apache-2.0",
    origin=(
        "German and English user interface texts of Home Assistant 2024.3.3 by the Home Assistant "
        "Authors and its translators. Cut into sentences, cleaned, de-duplicated, split at random "
        "with near-duplicates kept together, and turned into byte-pair units."
    ),
)

Pair = tuple[str, str]  # German, English

WORDS = range(3, 21)  # allowed numbers of words in a sentence
MAX_LETTERS = 120
HELD_OUT = 500  # pairs for validation, and as many for test
NUM_UNITS = 2000
SPECIAL = ("<pad>", "</s>")  # units 0 and 1: padding, and the end of a sentence


def build(sources: Path) -> dict[str, np.ndarray]:
    """The sentences of each split and language, one after the other.

    units: the text of each unit, with `SPACE` where a word begins.
    SPLIT_LANGUAGE: numbers of the units; every sentence ends with unit 1.
    SPLIT_LANGUAGE_length: number of units of each sentence, including its end.
    SPLIT_reference: the English sentences of validation and test.
    """
    (wheel,) = (sources / "homeassistant").glob("*.whl")
    pairs = sorted({pair for texts in _texts(wheel) for pair in _sentence_pairs(*texts)})
    splits = _split(pairs)
    letters = sorted({letter for pair in pairs for letter in "".join(pair)} - {" "})
    letters.append(SPACE)
    merges = learn(chain(*splits["train"]), NUM_UNITS - len(SPECIAL) - len(letters))
    rank = {pair: place for place, pair in enumerate(merges)}
    units = [*SPECIAL, *letters, *("".join(pair) for pair in merges)]
    number = {unit: place for place, unit in enumerate(units)}
    arrays = {"units": np.array(units)}
    for split, chosen in splits.items():
        for column, language in enumerate(("german", "english")):
            sentences = [[number[unit] for unit in encode(p[column], rank)] + [1] for p in chosen]
            arrays[f"{split}_{language}"] = np.concatenate(sentences).astype(np.uint16)
            arrays[f"{split}_{language}_length"] = np.array([*map(len, sentences)], np.uint8)
        if split != "train":
            arrays[f"{split}_reference"] = np.array([english for _, english in chosen])
    return arrays


def _texts(wheel: Path) -> Iterator[Pair]:
    """Texts (German, English) that have the same key in both languages."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for english in sorted(names):
            german = english.removesuffix("en.json") + "de.json"
            if re.search(r"/translations/(\w+\.)?en\.json$", english) and german in names:
                source = dict(_leaves(json.loads(archive.read(german))))
                target = dict(_leaves(json.loads(archive.read(english))))
                yield from ((source[key], target[key]) for key in source if key in target)


def _leaves(tree: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in nested dictionaries, with its path of keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        elif isinstance(value, str):
            yield (*path, key), value


_QUOTES = str.maketrans({**dict.fromkeys("„“”«»", '"'), "’": "'", "\xa0": " ", "…": "..."})
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_VARIABLE = re.compile(r"\{[^}]*\}|<[^>]+>|%\w+%|https?://\S+")
_EMPHASIS = re.compile(r"[*`]|\b_|_\b")
_SENTENCE_END = re.compile(r'(?<=[.!?:])\s+(?=[A-ZÄÖÜ"])|\s*\n\s*')
_SPELLABLE = re.compile(r"[ A-Za-zÄÖÜäöüß0-9.,;:!?'\"()/%&+=#@$°_–-]+")


def _sentence_pairs(german: str, english: str) -> Iterator[Pair]:
    """Pairs of cleaned sentences of a text, if both languages have equally many sentences."""
    pairs = [_SENTENCE_END.split(text.translate(_QUOTES).strip()) for text in (german, english)]
    if len(pairs[0]) != len(pairs[1]):
        return
    for one, other in zip(*pairs, strict=True):
        pair = _clean(one), _clean(other)
        if (
            all(len(sentence.split()) in WORDS for sentence in pair)
            and all(len(sentence) <= MAX_LETTERS for sentence in pair)
            and all(_SPELLABLE.fullmatch(sentence) for sentence in pair)
            and pair[0] != pair[1]
            and 0.4 < len(pair[0]) / len(pair[1]) < 2.5
        ):
            yield pair


def _clean(sentence: str) -> str:
    sentence = _VARIABLE.sub(" X ", _LINK.sub(r"\1", sentence))
    sentence = " ".join(_EMPHASIS.sub("", sentence).split())
    return re.sub(r"(?<=\() | (?=[.,;:!?)]+( |$))", "", sentence)


def _split(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Random splits that keep pairs with nearly equal sentences together.

    Sentences are nearly equal if they differ only in case, digits, punctuation and variables and,
    if they have four words or more, in one word inserted, deleted or replaced. Families of more
    than three such pairs all go to training.
    """
    families = _families(pairs)
    names = sorted(set(families))
    random.Random(0).shuffle(names)
    members: dict[int, list[Pair]] = {name: [] for name in names}
    for pair, family in zip(pairs, families, strict=True):
        members[family].append(pair)
    splits: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for family in names:
        open_splits = [s for s in ("validation", "test") if len(splits[s]) < HELD_OUT]
        held_out = open_splits and len(members[family]) <= 3
        splits[open_splits[0] if held_out else "train"] += members[family]
    return splits


def _families(pairs: list[Pair]) -> list[int]:
    """A number for each pair, equal for pairs that are linked by nearly equal sentences."""
    parent = list(range(len(pairs)))

    def root(child: int) -> int:
        while parent[child] != child:
            parent[child] = child = parent[parent[child]]
        return child

    first_with: dict[tuple, int] = {}
    for number, pair in enumerate(pairs):
        for language, sentence in enumerate(pair):
            for pattern in _patterns(sentence):
                other = first_with.setdefault((language, pattern), number)
                parent[root(number)] = root(other)
    return [root(number) for number in range(len(pairs))]


def _patterns(sentence: str) -> Iterator[tuple[str, ...]]:
    """Patterns; two sentences of four or more words share one if they are one edit apart."""
    words = tuple(re.sub(r"\bX\b|[\W\d_]+", " ", sentence).lower().split())
    yield words
    if len(words) >= 4:
        for place in range(len(words) + 1):
            yield (*words[:place], "*", *words[place:])
            yield (*words[:place], "*", *words[place + 1 :])
