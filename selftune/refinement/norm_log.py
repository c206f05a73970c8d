"""Gradient norms of a run, and the table in which they are kept."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

GRADIENT_NORMS = ("l2", "l1", "update")
NORMS = (*GRADIENT_NORMS, "weight")
SERIES = ("step", "lr", *NORMS)
WHOLE = ("total_steps", "weight_decay", "optimizer")  # one value for the run, in every row

# What other programs call our columns.
ALIASES = {
    "iter": "step",
    "iteration": "step",
    "learning_rate": "lr",
    "grad_norm": "l2",
    "grad_norm_l2": "l2",
    "gradient_norm": "l2",
    "grad_norm_l1": "l1",
    "weight_norm": "weight",
}

# Of the rows: a resumed run writes some steps twice, a table of two runs all of them.
REPEATED = 0.1


@dataclass(frozen=True, eq=False)
class NormLog:
    """Norms at some steps of one run, as `GradientNorms` records them or a CSV table has them.

    steps: rising.
    norms: a number a record under each name: "l2" and "l1" of the gradient that the optimizer
        consumed; "update", <g, u> where u is what lr multiplied in the step; "weight", the l2
        norm of the weights before the step.
    lrs: learning rates of the first parameter group, if known.
    weight_decay: the largest of all groups, if known.
    optimizer: the name of its class, if known.
    total_steps: of the run; if 0, as many as the records cover at their usual distance.
    """

    steps: np.ndarray
    norms: Mapping[str, np.ndarray]
    lrs: np.ndarray | None = None
    weight_decay: float | None = None
    optimizer: str | None = None
    total_steps: int = 0

    def __post_init__(self) -> None:
        for name, values in {**self.norms, "lrs": self.lrs}.items():
            if values is not None and values.shape != self.steps.shape:
                raise ValueError(f"{len(values)} values of {name} for {len(self.steps)} steps")
        if (np.diff(self.steps) <= 0).any():
            raise ValueError("steps must rise from record to record")
        if self.lrs is not None and (wrong := (self.lrs < 0) | np.isinf(self.lrs)).any():
            raise ValueError(f"lrs must be finite and not negative, got {self.lrs[wrong][0]}")
        if self.weight_decay is not None and not 0 <= self.weight_decay < inf:
            raise ValueError(
                f"weight_decay must be finite and not negative, got {self.weight_decay}"
            )
        if not len(self.steps):
            return
        if not self.total_steps:
            total = round(self.steps[-1] - self.begin + self.spacing)
            object.__setattr__(self, "total_steps", total)
        if self.steps[-1] > self.total_steps:
            raise ValueError(f"a record of step {self.steps[-1]} in {self.total_steps} steps")

    @property
    def begin(self) -> float:
        """What the run's first step is called: 0, or 1, or the distance d between records.

        Records from 0 to T - d and from d to T are of T steps in both cases.
        """
        return min(float(self.steps[0]), self.spacing)

    @property
    def spacing(self) -> float:
        """The usual distance between records, in steps."""
        return float(np.median(np.diff(self.steps))) if len(self.steps) > 1 else 1.0

    def after(self, step: int) -> NormLog:
        """What was recorded after so many steps, as the log of a run that began then."""
        kept = self.steps - self.begin >= step
        return replace(
            self,
            steps=self.steps[kept] - step,
            norms={name: values[kept] for name, values in self.norms.items()},
            lrs=None if self.lrs is None else self.lrs[kept],
            total_steps=self.total_steps - step,
        )

    def save(self, path: str | Path) -> None:
        """Write a CSV table that `load` reads back exactly; compressed if it ends in .gz."""
        series = {"step": self.steps, "lr": self.lrs, **self.norms}
        columns = {name: v.tolist() for name, v in series.items() if v is not None}
        for name in WHOLE:
            if (value := getattr(self, name)) is not None:
                columns[name] = [value] * len(self.steps)
        with _open(path, "wt") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    @staticmethod
    def load(
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> NormLog:
        """Read a CSV table with a header, ours or another program's.

        columns: their name -> ours: step, lr, l2, l1, update, weight, total_steps,
            weight_decay, optimizer. Our names and some usual ones are understood as they are,
            other columns are left out. Without a column of steps, a row is a step.
        where: only the rows with these values in these columns, from a table of many runs.
        An empty cell is nan. Of a step that is there twice, as after a resume, the last row
        counts. Raises ValueError, in one line, for a table without norms or of several runs.
        """
        columns, where = columns or {}, where or {}
        for name, meaning in columns.items():
            if meaning not in (*SERIES, *WHOLE):
                raise ValueError(
                    f"{name} cannot be {meaning!r}: a column is one of {', '.join(SERIES + WHOLE)}"
                )
        header, rows = _read(path, columns, where)
        if not rows:
            raise ValueError(f"{path} has no rows{f' where {dict(where)}' if where else ''}")
        theirs = _their_names(header, columns)
        if not any(name in theirs for name in GRADIENT_NORMS):
            raise ValueError(
                f"{path} has no column of gradient norms; it has {', '.join(header)}: say which "
                'one is, as in columns={"theirs": "l2"}'
            )
        series = {n: _numbers(path, rows, theirs[n]) for n in SERIES if n in theirs}
        steps = series.pop("step", np.arange(len(rows), dtype=np.float64))
        order = _one_run(path, steps)
        last = {name: rows[order[-1]][theirs[name]] for name in WHOLE if name in theirs}
        decay, total = (
            _number(str(path), name, last.get(name, "")) for name in ("weight_decay", "total_steps")
        )
        return NormLog(
            steps=steps[order].astype(np.int64),
            lrs=series.pop("lr")[order] if "lr" in series else None,
            norms={name: values[order] for name, values in series.items()},
            weight_decay=None if isnan(decay) else decay,
            optimizer=last.get("optimizer") or None,
            total_steps=int(total) if isfinite(total) else 0,
        )


def _open(path: str | Path, mode: str) -> Any:
    opener = gzip.open if str(path).endswith(".gz") else open
    return opener(path, mode, newline="")


def _read(
    path: str | Path, columns: Mapping[str, str], where: Mapping[str, str]
) -> tuple[list[str], list[dict[str, str]]]:
    """The header, and the rows that are wanted; cells that a short row lacks are empty."""
    try:
        with _open(path, "rt") as file:
            reader = csv.DictReader(file, restval="")
            header = list(reader.fieldnames or [])
            for name in {**columns, **where}:
                if name not in header:
                    raise ValueError(f"{path} has no column {name!r}; it has {', '.join(header)}")
            rows = [row for row in reader if all(_equal(row[n], v) for n, v in where.items())]
            return header, rows
    except (csv.Error, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a CSV table: {error}") from None


def _equal(cell: str, wanted: str) -> bool:
    try:
        return float(cell) == float(wanted)
    except ValueError:
        return cell == wanted


def _their_names(header: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Our name -> theirs; what is said goes before our own names, and these before aliases."""
    theirs: dict[str, str] = {}
    for meaning in (columns, {name: name for name in (*SERIES, *WHOLE)}, ALIASES):
        for name in header:
            if name in meaning:
                theirs.setdefault(meaning[name], name)
    return theirs


def _numbers(path: str | Path, rows: list[dict[str, str]], name: str) -> np.ndarray:
    numbers = [_number(f"{path}, row {i}", name, row[name]) for i, row in enumerate(rows, start=1)]
    return np.array(numbers)


def _number(where: str, name: str, cell: str) -> float:
    try:
        return float(cell) if cell else nan
    except ValueError:
        raise ValueError(f"{where}: {name} is {cell!r}, not a number") from None


def _one_run(path: str | Path, steps: np.ndarray) -> list[int]:
    """The rows to take, in the order of their steps."""
    if not np.isfinite(steps).all():
        raise ValueError(f"{path} has rows without a step")
    last = {step: row for row, step in enumerate(steps)}
    if len(last) < (1 - REPEATED) * len(steps):
        raise ValueError(
            f"{path} has {len(steps)} rows for {len(last)} steps: several runs? "
            'Choose one, as in where={"column": "value"}'
        )
    return [last[step] for step in sorted(last)]
