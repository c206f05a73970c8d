"""Tables in long format, with a row for each measurement, converted to a column for each name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from selftune.refinement.log_columns import GRADIENT_NORMS, canonical, matches
from selftune.refinement.log_files import Table

# Names of the columns with a measurement's name and value, in TensorBoard, MLflow and pandas' melt.
NAMES = ("tag", "tag_name", "key", "metric", "metric_name", "metric_key", "name", "variable")
VALUES = ("value", "values", "metric_value", "scalar", "scalar_value")


def widened(
    table: Table, meanings: Mapping[str, str], where: Mapping[str, str]
) -> tuple[Table, dict[str, str]]:
    """Convert a table in long format to one with a column for each name; return others unchanged.

    A table of one measurement has no column of names: its values are taken for gradient norms, with
    a note.
    meanings: name of a column -> its meaning. It is returned too, with what was added.
    """
    header = table.header
    plain = [canonical(name) for name in header]
    values = [i for i, name in enumerate(plain) if name in VALUES and header[i] not in meanings]
    norms = any(matches(header, meanings, meaning) for meaning in GRADIENT_NORMS)
    if norms or not values:
        return table, dict(meanings)
    names = [i for i, name in enumerate(plain) if name in NAMES and header[i] not in where]
    if names:
        name = min(names, key=lambda i: NAMES.index(plain[i]))
        return _wide(table, name, values[0]), dict(meanings)
    if "step" not in plain:
        return table, dict(meanings)
    table.notes.append(f"{header[values[0]]} is taken for the l2 norm of the gradient")
    return table, {**meanings, header[values[0]]: "l2"}


def _wide(table: Table, name: int, value: int) -> Table:
    rows = [[*row, *[None] * (len(table.header) - len(row))] for row in table.rows]
    measured = list(dict.fromkeys(str(row[name]) for row in rows))
    place = {measurement: i for i, measurement in enumerate(measured)}

    def wide() -> Iterator[Sequence[Any]]:
        for row in rows:
            cells: list[Any] = [None] * len(measured)
            cells[place[str(row[name])]] = row[value]
            yield [*row, *cells]

    return replace(table, header=[*table.header, *measured], rows=wide())
