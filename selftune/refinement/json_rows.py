"""Tables from JSON: lists of records, columns, trainer states, and JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selftune.refinement.log_columns import matches

# Keys under which programs such as transformers' Trainer keep their records in an object.
RECORDS = ("log_history", "history", "logs", "log", "metrics", "records", "data")
# Keys of a trainer's state that describe the whole run -> our name.
FACTS = {"global_step": "steps_made", "max_steps": "max_steps"}
BETWEEN = re.compile(r"[\s,\x1e]*")  # between JSON values that follow each other
TENSORBOARD = ["Wall time", "Step", "Value"]  # columns of its JSON, whose rows have no names


def json_rows(
    path: str | Path, text: str
) -> tuple[list[str], list[list[Any]], dict[str, Any], list[str]]:
    """The header, the rows, facts about the whole run, and notes for the reader.

    Raises ValueError, with a message of one line, for JSON without records.
    """
    facts, notes = {}, []
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        records, notes = _one_after_another(path, text)
    except RecursionError:
        raise ValueError(f"{path} is JSON of too many levels to be a log") from None
    else:
        if isinstance(data, Mapping):
            facts = {ours: data[name] for name, ours in FACTS.items() if name in data}
        records = _records(data)
        if records is None:
            raise ValueError(f"{path} is JSON without a list of records, such as a log_history")
    flat = [_flat(record) for record in records]
    header = list(dict.fromkeys(name for record in flat for name in record))
    return header, [[record.get(name) for name in header] for record in flat], facts, notes


def _one_after_another(path: str | Path, text: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Records that follow each other, with blanks or commas between them.

    If that fails, one record in each line; other lines are left out, with a note.
    """
    try:
        values = list(_values(text))
    except json.JSONDecodeError:
        return _lines(path, text)
    records = _records([v for v in values if isinstance(v, Mapping)] or values)
    if records is None:
        raise ValueError(f"{path} is JSON without records")
    return records, []


def _values(text: str) -> Iterator[Any]:
    decoder, place = json.JSONDecoder(), 0
    while (between := BETWEEN.match(text, place)) and between.end() < len(text):
        value, place = decoder.raw_decode(text, between.end())
        yield value


def _lines(path: str | Path, text: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    records, left_out = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip().rstrip(",")
        if line in ("", "[", "]"):  # a list that is invalid as a whole, as it ends in a comma
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            record = left_out.append((number, error.msg))
        if isinstance(record, Mapping):
            records.append(record)
    if not records:
        number, reason = left_out[0]  # exists, as otherwise `_values` would have succeeded
        raise ValueError(f"{path} cannot be read as JSON: line {number}: {reason}")
    if left_out:
        lines = f"{len(left_out)} lines are" if len(left_out) > 1 else "a line is"
        return records, [f"{lines} no JSON and left out: line {left_out[0][0]}"]
    return records, []


def _records(data: Any) -> list[Mapping[str, Any]] | None:
    """The records in any of the structures that programs write; None if there are none."""
    if isinstance(data, list):
        if all(isinstance(item, Mapping) for item in data):
            return data
        for width in (2, 3):
            if all(isinstance(item, list) and len(item) == width for item in data):
                return [dict(zip(TENSORBOARD[-width:], row, strict=True)) for row in data]
        if all(isinstance(item, int | float) for item in data):
            return [{"grad_norm": item} for item in data]
        return None
    if not isinstance(data, Mapping):
        return None
    names, rows = data.get("columns"), data.get("data")
    if (
        isinstance(names, list)
        and isinstance(rows, list)
        and all(isinstance(row, list) for row in rows)
    ):
        return [dict(zip(map(str, names), row, strict=False)) for row in rows]
    for name in RECORDS:
        if isinstance(data.get(name), list | Mapping):
            found = _records(data[name])
            if found is not None:
                return found
    if data and all(key.isdecimal() and isinstance(v, Mapping) for key, v in data.items()):
        return _indexed(data)
    pairs = {name: _pairs(values) for name, values in data.items()}
    if pairs and all(pairs.values()):
        return [
            {"metric": name, "step": step, "value": value}
            for name, of_name in pairs.items()
            for step, value in of_name or ()
        ]
    columns = {name: _listed(values) for name, values in data.items()}
    if columns and all(isinstance(values, list) for values in columns.values()):
        length = max(map(len, columns.values()))
        return [
            {name: values[i] for name, values in columns.items() if i < len(values)}
            for i in range(length)
        ]
    return [data] if any(isinstance(v, int | float | str) for v in data.values()) else None


def _indexed(data: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Records from an object whose keys are steps or row numbers."""
    names = list(dict.fromkeys(name for record in data.values() for name in record))
    if matches(names, {}, "step") or list(data) == [str(i) for i in range(len(data))]:
        return list(data.values())
    return [{"step": int(key), **record} for key, record in data.items()]


def _pairs(values: Any) -> list[tuple[Any, Any]] | None:
    """Steps and values of one metric, in the structure of Sacred and others; None if not that."""
    if isinstance(values, Mapping):
        steps, found = values.get("steps"), values.get("values")
        if isinstance(steps, list) and isinstance(found, list):
            return list(zip(steps, found, strict=False))
    if not isinstance(values, list):
        return None
    if all(isinstance(item, Mapping) and {"step", "value"} <= item.keys() for item in values):
        return [(item["step"], item["value"]) for item in values]
    if all(isinstance(item, list) and len(item) == 2 for item in values):
        return [(step, value) for step, value in values]
    return None


def _listed(values: Any) -> Any:
    """A column as a list, also if pandas wrote it as an object from row index to value."""
    if isinstance(values, Mapping) and all(key.isdecimal() for key in values):
        return list(values.values())
    return values


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested records: their names become "outer/inner"."""
    flat = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
