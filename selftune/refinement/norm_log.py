"""NormLog: the gradient norms of a run, read from and written to tables."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from selftune.refinement.clipping import clipped, clipping_note
from selftune.refinement.log_columns import WHOLE
from selftune.refinement.log_records import read_records
from selftune.refinement.log_steps import first_and_total


@dataclass(frozen=True, eq=False)
class NormLog:
    """Norms at some steps of a run, recorded by `GradientNorms` or read from a program's log.

    steps: of the records, increasing.
    norms: for each name an array with a number for each record. "l2" and "l1" are norms of the
        gradient that the optimizer got; "update" is <g, u>, where u is the update before its
        multiplication by lr; "weight" is the l2 norm of the weights before the step.
    lrs: learning rates of the first parameter group, if known.
    weight_decay: the largest of all groups, if known.
    optimizer: the name of its class, if known.
    total_steps: the length of the run; 0 means that which the records cover.
    notes: assumptions that were made when another program's log was read.
    """

    steps: np.ndarray
    norms: Mapping[str, np.ndarray]
    lrs: np.ndarray | None = None
    weight_decay: float | None = None
    optimizer: str | None = None
    total_steps: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, values in {**self.norms, "lrs": self.lrs}.items():
            if values is not None and values.shape != self.steps.shape:
                raise ValueError(f"{len(values)} values of {name} for {len(self.steps)} steps")
        if len(self.steps) and self.steps[0] < 0:
            raise ValueError(f"steps must be 0 or more, got {self.steps[0]}")
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
            object.__setattr__(self, "total_steps", first_and_total(self.steps)[1])
        if self.steps[-1] > self.total_steps:
            raise ValueError(f"a record of step {self.steps[-1]} in {self.total_steps} steps")

    @property
    def begin(self) -> int:
        """The step number that the run's first record has: 0, 1, or the spacing of records."""
        return first_and_total(self.steps)[0] if len(self.steps) else 0

    @property
    def spacing(self) -> float:
        """The usual distance between records, in steps."""
        return float(np.median(np.diff(self.steps))) if len(self.steps) > 1 else 1.0

    def after(self, step: int) -> NormLog:
        """The records after the first `step` steps, as the log of a run that began there."""
        kept = self.steps - self.begin >= step
        return replace(
            self,
            steps=self.steps[kept] - step,
            norms={name: values[kept] for name, values in self.norms.items()},
            lrs=None if self.lrs is None else self.lrs[kept],
            total_steps=max(0, self.total_steps - step),
        )

    def before(self, step: int) -> NormLog:
        """The records of the first `step` steps, as the log of a run that ended there."""
        kept = self.steps - self.begin < step
        return replace(
            self,
            steps=self.steps[kept],
            norms={name: values[kept] for name, values in self.norms.items()},
            lrs=None if self.lrs is None else self.lrs[kept],
            total_steps=min(step, self.total_steps),
        )

    def clipped(self, largest: float) -> NormLog:
        """The log with norms as they were after clipping to the l2 norm `largest`.

        Most programs log what `clip_grad_norm_` returns, the norm before clipping, but refinement
        needs the norm that the optimizer got. Raises ValueError for a log without l2 norms.
        """
        norms, note = clipped(self.norms, largest)
        notes = [n for n in self.notes if n != clipping_note(self.norms["l2"])]
        return replace(self, norms=norms, notes=(*notes, note))

    def save(self, path: str | Path) -> None:
        """Write a CSV table that `load` reads back exactly; compressed if the path ends in .gz."""
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
        """Read a table with a header, ours or another program's: CSV, JSON or JSON lines.

        Columns may be separated by commas, semicolons, tabs, bars or blanks; files may be
        compressed by gzip. It reads, for instance, exports of Lightning, Weights & Biases,
        TensorBoard, MLflow and pandas, and transformers' trainer_state.json.

        columns: name of a column in the file -> its meaning: step, lr, l2, l1, update, weight,
            total_steps, weight_decay, optimizer. These names and the usual names of loggers are
            recognized without it, in upper and lower case; other columns are ignored. Without a
            column of steps, each row with a norm counts as a step.
        where: column -> value; in a table of many runs, only rows with these values are read.
        A row without a gradient norm is not a record, but its other cells are used; a norm of nan
        is an unusable record. If a step occurs twice, as after a resume, the last row counts.
        `notes` says what was assumed. Raises ValueError, with a message of one line, for a table
        without norms or with several runs.
        """
        return NormLog(**read_records(path, columns or {}, where or {}))


def _open(path: str | Path, mode: str) -> Any:
    opener = gzip.open if str(path).endswith(".gz") else open
    return opener(path, mode, newline="", encoding="utf-8")
