"""Reading of tables from files: delimited text, JSON and JSON lines, compressed or not."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any, TextIO

from selftune.refinement.json_rows import json_rows
from selftune.refinement.text_logs import refuse_text_log

HEAD = 1 << 16  # bytes from which the format is recognized
DELIMITERS = ",;\t|"
ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# First bytes of binary formats, which are refused by name.
BINARY = {
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a Parquet file",
    b"SQLite": "a database",
    b"\x93NUMPY": "an array of NumPy",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
}
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
DECIMAL_COMMA = re.compile(r"[+-]?\d+(\.\d{3})*,\d+([eE][+-]?\d+)?")
QUOTED_COMMA = re.compile(r"[+-]?(0,\d+|[1-9]\d*,(\d{1,2}|\d{4,}))([eE][+-]?\d+)?")
DECIMAL_POINT = re.compile(r"[+-]?(0|[1-9]\d*)\.(\d{1,2}|\d{4,}|\d+[eE][+-]?\d+)")
RULE = re.compile(r"[\s|+:=-]*--[\s|+:=-]*")  # a line of dashes below a header, as in Markdown
MLFLOW = ["timestamp", "value", "step"]  # columns of MLflow's files, which have no header
UNREADABLE = (csv.Error, EOFError, UnicodeError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


@dataclass
class Table:
    """A header, and an iterator over rows with a cell for each of its names.

    decimal_comma: whether numbers are written as in 1.234,5.
    facts: values that hold for the whole run.
    notes: assumptions that were made, for the user.
    """

    header: list[str]
    rows: Iterator[Sequence[Any]]
    decimal_comma: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def open_table(path: str | Path) -> Table:
    """Open a table, whose format is recognized by its content; rows are read lazily.

    Raises ValueError, with a message of one line, for a file that is not a readable table.
    """
    try:
        file, head = _text(path)
        try:
            refuse_text_log(path, head)
            lines = head.splitlines()
            json_lines = sum(line.lstrip().startswith('{"') for line in lines)
            if head.lstrip()[:1] in ("{", "[") or json_lines > len(lines) / 2:
                header, rows, facts, notes = json_rows(path, file.read())
                file.close()
                return Table(header, iter(rows), facts=facts, notes=notes)
            return _delimited(path, file, head)
        except BaseException:
            file.close()
            raise
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def unreadable(path: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read as a CSV table: {error}")


def _text(path: str | Path) -> tuple[TextIO, str]:
    """Open the file as text, decompressed; returns also its beginning."""
    if "tfevents" in Path(path).name:
        raise ValueError(f"{path} holds TensorBoard's events: export the scalars as CSV or JSON")
    raw: Any = open(path, "rb", buffering=HEAD)  # noqa: SIM115
    magics = (magic for magic in COMPRESSED if raw.peek(8).startswith(magic))
    if magic := next(magics, None):
        raw.close()
        raw = io.BufferedReader(COMPRESSED[magic](path), HEAD)
    try:
        head = raw.peek(HEAD)[:HEAD]
        encoding = _encoding(path, head)
    except BaseException:
        raw.close()
        raise
    text = head.decode(encoding, errors="ignore")
    # Invalid characters, perhaps in the name of an unused column, should not prevent reading.
    return io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline=""), text


def _encoding(path: str | Path, head: bytes) -> str:
    """The encoding of a file with these first bytes. Raises ValueError for binary formats."""
    kind = next((name for magic, name in BINARY.items() if head.startswith(magic)), None)
    found = next((encoding for bom, encoding in ENCODINGS.items() if head.startswith(bom)), None)
    if kind is None and found is None and b"\0" in head:
        found = {head[1]: "utf-16-le", head[0]: "utf-16-be"}.get(0)
        kind = None if found else "no text"
    if kind is not None:
        raise ValueError(f"{path} is {kind}: export it as CSV or JSON")
    return found or "utf-8"


def _delimited(path: str | Path, file: TextIO, head: str) -> Table:
    lines = [line for line in head.splitlines() if line.strip()]
    # Excel writes the delimiter into a first line.
    declared = next((line[4] for line in lines[:1] if re.fullmatch("sep=.", line)), None)
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    lines = [line for line in lines[declared is not None :] if _is_row(line)]
    delimiter, width = _delimiter(lines[:-1] or lines)  # the last line may be incomplete
    delimiter = declared or delimiter
    titles = [*takewhile(lambda row: len(row) == 1 < width, _cells(lines, delimiter))]
    rows = _rows(path, file, delimiter, (declared is not None) + len(titles))
    header = next(rows, [])
    if header and all(map(_is_number, header)):
        header, rows = _headed(path, header, rows, [*_cells(comments[-1:], delimiter), []][0])
    numbers = [cell for row in _cells(lines[1:100], delimiter) for cell in row]
    decimal = QUOTED_COMMA if delimiter == "," else DECIMAL_COMMA
    commas = any(map(decimal.fullmatch, numbers))
    points = any(map(DECIMAL_POINT.fullmatch, numbers))
    return Table(header, rows, decimal_comma=commas and not points)


def _rows(path: str | Path, file: TextIO, delimiter: str, skip: int) -> Iterator[list[str]]:
    """The header, then the rows, without comments, rules and empty lines.

    If a resumed run has repeated the header, perhaps in another order, the rows after it are put
    into the first one's order.
    """
    header, order = [], None
    try:
        with file:
            lines = filter(_is_row, file)
            rows = csv.reader(islice(lines, skip, None), delimiter=delimiter, skipinitialspace=True)
            for number, row in enumerate(rows):
                if not header:
                    header = row
                    yield row
                elif row == header or len(set(row) & set(header)) > 1:
                    order = (
                        None
                        if row == header
                        else [*map({n: i for i, n in enumerate(row)}.get, header)]
                    )
                elif order is not None:
                    yield [row[i] if i is not None and i < len(row) else "" for i in order]
                elif any(row[len(header) :]):
                    raise ValueError(
                        f"{path}, row {number}: {len(row)} cells under {len(header)} names of "
                        f"columns; a number with {delimiter!r} in it has to stand in quotes, and "
                        "every column needs a name"
                    )
                else:
                    yield row
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#") and not RULE.fullmatch(line)


def _headed(
    path: str | Path, first: list[str], rows: Iterator[list[str]], comment: list[str]
) -> tuple[list[str], Iterator[list[str]]]:
    """A header for a table that begins with a row of numbers; returns also all rows."""
    if len(comment) == len(first):
        header = comment
    elif len(first) == 1:
        header = ["grad_norm"]
    elif len(first) == 3 and re.fullmatch(r"\d{13}", first[0]):
        header = MLFLOW
    else:
        raise ValueError(
            f"{path} begins with the numbers {', '.join(first)} and not with names of columns: "
            "write such a line above them, as step,grad_norm"
        )
    return header, chain([first], rows)


def _delimiter(lines: list[str]) -> tuple[str, int]:
    """The delimiter that gives most lines the same number of cells, and that number.

    Blanks are chosen only if no other delimiter occurs.
    """
    counts = {}
    for d in (*DELIMITERS, " "):
        widths = Counter(map(len, _cells(lines[:20], d)))
        width, num_lines = max(widths.items(), key=lambda w: w[::-1], default=(1, 0))
        counts[d] = (width > 1, d != " ", num_lines, width)
    best = max(counts, key=counts.__getitem__)
    return best, counts[best][-1]


def _cells(lines: list[str], delimiter: str) -> list[list[str]]:
    return list(
        csv.reader((line.strip(" ") for line in lines), delimiter=delimiter, skipinitialspace=True)
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
