"""Parsing of a table's cells into columns of numbers, as programs and spreadsheets write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np

from selftune.refinement.log_files import Table

EMPTY = {"", "null", "none", "n/a", "#n/a", "na", "<na>", "-", "--", "?"}
# Infinities and NaN as C and spreadsheets write them.
NOT_FINITE = re.compile(r"[+-]?(1\.#(inf|ind|qnan|snan)0*|nan\(.*\))|#(num|div/0|value)!", re.I)
# Numbers that were printed with their type: tensor(1.5, device='cuda:0'), np.float64(1.5).
TYPED = re.compile(r"(?:tensor|array|(?:np\.|numpy\.)?float\d*)\(\[?([^(),\[\]]+)[,)\]].*")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
POINTED_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?")


@dataclass
class Column:
    """The numbers of a column, nan in empty cells; `given` is a mask of the other cells."""

    name: str
    values: np.ndarray
    given: np.ndarray


def read_columns(
    path: str | Path,
    table: Table,
    wanted: Iterable[int],
    last: Mapping[str, int],
    where: Mapping[str, str],
) -> tuple[dict[int, Column], dict[str, str]]:
    """The columns with the indices `wanted` as numbers, and the last text in other columns.

    last: a name for each column of which the last text is returned, and its index.
    where: column -> value; only rows with these values are read.
    Raises ValueError for a cell that is not a number, and if no row is left.
    """
    cells: dict[int, list[float | None]] = {i: [] for i in wanted}
    texts: dict[str, str] = {}
    asked = {table.header.index(name): value for name, value in where.items()}
    count = 0
    for row_number, row in enumerate(table.rows, start=1):
        row = [*row, *[None] * (len(table.header) - len(row))]
        if not all(_is_equal(row[i], value) for i, value in asked.items()):
            continue
        count += 1
        for i, column in cells.items():
            try:
                column.append(number(row[i], table.decimal_comma))
            except ValueError:
                raise ValueError(
                    f"{path}, row {row_number}: {table.header[i]} is {row[i]!r}, not a number; say "
                    "another column with --column"
                ) from None
        for name, i in last.items():
            if (text := str(row[i]).strip()).casefold() not in EMPTY:
                texts[name] = text
    if not count:
        raise ValueError(f"{path} has no rows{f' where {dict(where)}' if where else ''}")
    return {
        i: Column(
            table.header[i],
            np.array([np.nan if cell is None else cell for cell in column]),
            np.array([cell is not None for cell in column]),
        )
        for i, column in cells.items()
    }, texts


def number(cell: Any, decimal_comma: bool = False) -> float | None:
    """The number in a cell, or None if it is empty. Raises ValueError for any other text.

    NaN and infinities count as numbers, as something was measured.
    decimal_comma: whether 1,5 means 1.5, and 1.000 means 1000.
    """
    if isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    if cell is None or isinstance(cell, int | float):
        try:
            return None if cell is None else float(cell)
        except OverflowError:  # an integer too large for a float
            return inf
    text = re.sub(r"(?<=\d)['\s](?=\d{3}\b)", "", str(cell).strip())  # 1'000 and 1 000
    if decimal_comma:
        if POINTED_THOUSANDS.fullmatch(text):
            text = text.replace(".", "")
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        if text.casefold() in EMPTY:
            return None
        if THOUSANDS.fullmatch(text):
            return float(text.replace(",", ""))
        if NOT_FINITE.fullmatch(text):
            return nan
        if typed := TYPED.fullmatch(text):
            return float(typed[1])
        raise


def _is_equal(cell: Any, wanted: str) -> bool:
    text = "" if cell is None else str(cell).strip()
    try:
        return float(text) == float(wanted)
    except ValueError:
        return text == wanted.strip()
