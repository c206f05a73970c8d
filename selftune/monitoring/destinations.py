"""Destinations of a monitor's rows: a function, a CSV file, TensorBoard, Weights & Biases."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selftune.ranks import is_first_rank

Row = dict[str, float]
PREFIX = "optimizer/"  # of the names in TensorBoard and Weights & Biases


def destination(to: Any) -> Callable[[Row], Any]:
    """The function that writes a row to `to`. Loggers are recognized without importing them."""
    if to is None:
        return lambda row: None
    if isinstance(to, logging.Logger):
        raise ValueError("Monitor(to=...) got a logging.Logger; give its method, to=logger.info")
    if hasattr(to, "add_scalar"):  # a SummaryWriter
        return lambda row: _to_tensorboard(to, row)
    if hasattr(to, "log"):  # a run of wandb, or its module
        return lambda row: to.log({PREFIX + name: value for name, value in row.items()})
    if callable(to):
        return to
    if isinstance(to, str | os.PathLike):
        return CsvFile(Path(to).absolute())  # a program may change its folder
    raise ValueError(
        "Monitor(to=...) takes a function of a dict, a path of a CSV file, a SummaryWriter or a "
        f"wandb run, got a {type(to).__name__}"
    )


def _to_tensorboard(writer: Any, row: Row) -> None:
    for name, value in row.items():
        if name != "step":
            writer.add_scalar(PREFIX + name, value, int(row["step"]))


class CsvFile:
    """A CSV file to which each row is appended at once.

    An existing file is continued: its rows from the first new step on are dropped, so that a run
    that resumes from a checkpoint gives one curve. Of several ranks only rank 0 writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] | None = None  # until the first row

    def __call__(self, row: Row) -> None:
        if not is_first_rank():
            return
        if self._columns is None or not row.keys() <= set(self._columns):
            before = [old for old in self._rows() if float(old["step"]) < row["step"]]
            columns = [name for old in before[:1] for name in old]
            self._columns = [*columns, *(name for name in row if name not in columns)]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write("w", before, header=True)
        self._write("a", [row])

    def _rows(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            header, rows = file.readline(), file.readlines()
            # A full disk or a killed program may have cut off the last line.
            reader = csv.DictReader([header, *(row for row in rows if row.endswith("\n"))])
            if reader.fieldnames and "step" not in reader.fieldnames:
                raise ValueError(f"{self._path} has no column 'step': it is not a monitor's file")
            return list(reader)

    def _write(self, mode: str, rows: list[Any], header: bool = False) -> None:
        assert self._columns is not None
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            if header:
                writer.writeheader()
            writer.writerows(rows)
