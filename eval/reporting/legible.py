"""Escaping of texts from records, which anybody may have written, for reports."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

from ..results import Record

LONGEST = 2000  # characters
LONGEST_NAME = 80
NAMES = ("workload", "method", "ablated", "schedule")  # keys of a record whose values are names
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters that make a CSV cell a formula
# Characters that Markdown would read as markup. An underscore inside a word is not markup.
MARKDOWN = re.compile(r"[\\`*\[\]<|~]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)")


def legible(records: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The records with every text in one line of bounded length, without control characters."""
    return [
        {name: _legible(value, name in NAMES) for name, value in record.items()}
        for record in records
    ]


def shown(text: str, longest: int = LONGEST) -> str:
    """The text in one line; invisible characters are escaped, and long texts are cut.

    Different texts stay different.
    """
    line = "".join(map(_character, " ".join(text.split())))
    if len(line) <= longest:
        return line
    number = crc32(text.encode("utf-8", "surrogatepass"))
    return f"{line[: longest - 12]}...~{number:08x}"


def markdown(text: str) -> str:
    """The text escaped for Markdown."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", text)


def paragraph(text: str) -> str:
    """The text as a paragraph of Markdown: no heading, list or quotation."""
    return re.sub(r"^[#>+=-]", lambda found: f"&#{ord(found[0])};", markdown(text))


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV, in which no cell is a formula."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows(map(_cell, row) for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _character(character: str) -> str:
    # Control characters, surrogates and characters that change the direction of writing
    if unicodedata.category(character) in ("Cc", "Cs", "Cf", "Co", "Cn"):
        return ascii(character)[1:-1]
    return character


def _legible(value: Any, is_name: bool = False) -> Any:
    if isinstance(value, str):
        return shown(value, LONGEST_NAME if is_name else LONGEST)
    if isinstance(value, dict):
        return {shown(name): _legible(inner) for name, inner in value.items()}
    # Curves contain only numbers, and are long.
    if isinstance(value, list) and any(isinstance(inner, str | dict) for inner in value):
        return [_legible(inner) for inner in value]
    return value
