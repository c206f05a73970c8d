"""Tables read from files: delimited text, JSON and JSON lines, compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from selftune.refinement.json_rows import json_rows
from selftune.refinement.text_logs import refuse_text_log

HEAD = 1 << 16  # bytes by which a format is recognized
DELIMITERS = ",;\t|"
ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Files that other programs write and that hold no text.
BINARY = {b"PK\x03\x04": "a zip archive", b"PAR1": "a Parquet file", b"SQLite": "a database"}
DECIMAL_COMMA = re.compile(r"[+-]?\d+(\.\d{3})*,\d+([eE][+-]?\d+)?")
DECIMAL_POINT = re.compile(r"[+-]?(0|[1-9]\d*)\.(\d{1,2}|\d{4,}|\d+[eE][+-]?\d+)")
MLFLOW = ["timestamp", "value", "step"]  # the columns of its files of one metric
UNREADABLE = (csv.Error, EOFError, UnicodeError, zlib.error, gzip.BadGzipFile)


@dataclass
class Table:
    """A header, and rows with a cell for each of its names; read once, from the first on.

    decimal_comma: whether numbers are written as in 1.234,5.
    facts: what the file says of the whole run.
    notes: what a reader of the table should know.
    """

    header: list[str]
    rows: Iterator[Sequence[Any]]
    decimal_comma: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def open_table(path: str | Path) -> Table:
    """The table in a file, told from its content; rows are read as they are asked for.

    Raises ValueError, in one line, for a file that holds no table or cannot be read as one.
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
    """The file as text, and its beginning."""
    if "tfevents" in Path(path).name:
        raise ValueError(f"{path} holds TensorBoard's events: export the scalars as CSV or JSON")
    raw: Any = open(path, "rb", buffering=HEAD)  # noqa: SIM115
    if raw.peek(2)[:2] == b"\x1f\x8b":
        raw.close()
        raw = io.BufferedReader(gzip.open(path), HEAD)  # noqa: SIM115 # pyright: ignore[reportArgumentType]
    try:
        head = raw.peek(HEAD)[:HEAD]
    except BaseException:
        raw.close()
        raise
    for magic, name in BINARY.items():
        if head.startswith(magic):
            raw.close()
            raise ValueError(f"{path} is {name}: export it as CSV or JSON")
    found = (encoding for bom, encoding in ENCODINGS.items() if head.startswith(bom))
    encoding = next(found, "utf-8")
    text = head.decode(encoding, errors="ignore")
    return io.TextIOWrapper(raw, encoding=encoding, newline=""), text


def _delimited(path: str | Path, file: TextIO, head: str) -> Table:
    lines = [line for line in head.splitlines() if line.strip()]
    said = next((line[4] for line in lines[:1] if re.fullmatch("sep=.", line)), None)  # Excel's
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    lines = [line for line in lines[said is not None :] if not line.startswith("#")]
    delimiter = said or _delimiter(lines[:-1] or lines)  # the last one may be cut in two
    rows = _rows(path, file, delimiter, said is not None)
    header = next(rows, [])
    if header and all(map(_is_number, header)):
        header, rows = _headed(path, header, rows, [*_cells(comments[-1:], delimiter), []][0])
    numbers = [cell for row in _cells(lines[1:100], delimiter) for cell in row]
    commas = any(map(DECIMAL_COMMA.fullmatch, numbers))
    points = any(map(DECIMAL_POINT.fullmatch, numbers))
    return Table(header, rows, decimal_comma=delimiter != "," and commas and not points)


def _rows(path: str | Path, file: TextIO, delimiter: str, skip: bool) -> Iterator[list[str]]:
    """Header and rows; without comments, empty lines, and headers that a resumed run repeats."""
    header = None
    try:
        with file:
            lines = (line for line in file if not line.startswith("#"))
            if skip:
                next(lines)
            for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
                if row and row != header:
                    header = header or row
                    yield row
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def _headed(
    path: str | Path, first: list[str], rows: Iterator[list[str]], comment: list[str]
) -> tuple[list[str], Iterator[list[str]]]:
    """A header for a table whose first row is one of numbers."""
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


def _delimiter(lines: list[str]) -> str:
    """The delimiter that splits the header into most cells; blanks only if they split all rows
    alike."""
    counts = {d: len(row) for d in DELIMITERS for row in _cells(lines[:1], d)}
    best = max(counts, key=counts.__getitem__, default=",")
    if counts.get(best, 0) < 2 and len({len(row) for row in _cells(lines[:20], " ")}) == 1:
        return " "
    return best


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
