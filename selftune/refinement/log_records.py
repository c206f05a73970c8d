"""Reading of the records of one run from any program's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from selftune.refinement.clipping import clipping_note
from selftune.refinement.log_cells import Column, number, read_columns
from selftune.refinement.log_columns import (
    GRADIENT_NORMS,
    NORMS,
    SERIES,
    WHOLE,
    canonical,
    matches,
    optimizer_of,
    run_of,
)
from selftune.refinement.log_files import open_table
from selftune.refinement.log_steps import (
    REPEATED,
    counted_on,
    first_and_total,
    in_intervals,
    one_run,
)
from selftune.refinement.long_tables import widened

COUNTS = ("tokens", "samples")  # are used in place of steps if there is no column of steps
LONG, MANY = 60, 30  # longest name of a column, and most names, in a message
AXES = ("step", *COUNTS, "epoch")  # columns that give a row's position in the run, best first
MOST_STEPS = 2**53  # floats represent whole numbers exactly up to here


def read_records(
    path: str | Path, columns: Mapping[str, str], where: Mapping[str, str]
) -> dict[str, Any]:
    """The arguments of `NormLog`, read as `NormLog.load` says."""
    for name, meaning in columns.items():
        if meaning not in (*SERIES, *WHOLE):
            raise ValueError(
                f"{name} cannot be {meaning!r}: a column is one of {', '.join(SERIES + WHOLE)}"
            )
    table = open_table(path)
    where = _as_named(path, table.header, where)
    table, meanings = widened(table, _as_named(path, table.header, columns), where)
    notes = table.notes

    known = _known_columns(path, table.header, meanings)
    last = {name: i for name in WHOLE for i in matches(table.header, meanings, name)[:1]}
    read, texts = read_columns(path, table, known, last, where)
    series = _chosen(path, table.header, meanings, read)

    at = _places(path, series, notes)
    norms = {name: series[name] for name in NORMS if name in series}
    rows, notes_on_rows = one_run(path, at, _with_gaps(next(iter(norms.values()))))
    notes += notes_on_rows
    steps, joined = _joined(at, rows, series)
    records = _measured(joined)

    if steps[-1] > MOST_STEPS:
        raise ValueError(
            f"{path} has a row at {steps[-1]:g}, which is no step: say another column of steps "
            "with --column THEIRS=step"
        )
    total, end = _total(path, texts, table.facts, steps[records], steps[-1])
    if end is not None:
        notes.append(end)
    weight_decay = _number_of_run(path, "weight_decay", texts)
    if weight_decay and "lr" not in joined and "weight" not in norms:
        notes.append(
            f"weights decay by {weight_decay:g}, and neither learning rates nor weight norms are "
            "known, with which norms are decoupled from it: say which column has them, with "
            "--column THEIRS=lr"
        )
    if "weight" not in norms and "l2" in norms:
        notes += filter(None, [clipping_note(joined["l2"].values)])
    lr = joined.get("lr")
    optimizer = texts.get("optimizer")
    if lr is not None and optimizer is None and (optimizer := optimizer_of(lr.name)):
        notes.append(f"{lr.name} names the optimizer: {optimizer}")
    return {
        "steps": steps[records].astype(np.int64),
        "norms": {name: joined[name].values[records] for name in norms},
        "lrs": None if lr is None else _interpolated(steps, lr, records, notes),
        "weight_decay": weight_decay,
        "optimizer": optimizer,
        "total_steps": total,
        "notes": tuple(notes),
    }


# -- columns ----------------------------------------------------------------------------------


def _as_named(
    path: str | Path, header: Sequence[str], meanings: Mapping[str, str]
) -> dict[str, str]:
    """Replace the user's names of columns, in any case and punctuation, by the header's."""
    named = {}
    for name, meaning in meanings.items():
        alike = {n for n in header if n == name}
        alike = alike or {n for n in header if _letters(n) == _letters(name)}
        if len(alike) != 1:
            raise ValueError(
                f"{path} has no column {name!r}; it has {_listed(header)}: say one of these with "
                "--column or --where"
            )
        named[alike.pop()] = meaning
    return named


def _listed(names: Sequence[str]) -> str:
    """The names of columns for a message, cut if they are many or long."""
    listed = ", ".join(name if len(name) <= LONG else f"{name[:LONG]}..." for name in names[:MANY])
    return listed if len(names) <= MANY else f"{listed} and {len(names) - MANY} more"


def _letters(name: str) -> str:
    return canonical(name).replace("_", "")


def _known_columns(
    path: str | Path, header: Sequence[str], meanings: Mapping[str, str]
) -> list[int]:
    """The columns to read, those with gradient norms first."""
    norms = [i for meaning in GRADIENT_NORMS for i in matches(header, meanings, meaning)]
    if header and not norms:
        raise ValueError(
            f"{path} has no column of gradient norms; it has {_listed(header)}: say which one "
            'is, with --column THEIRS=l2 or columns={"THEIRS": "l2"}'
        )
    runs = dict.fromkeys(run_of(header[i]) for i in norms)
    others = [
        i
        for run in runs
        for meaning in ("weight", "lr", *AXES)
        for i in matches(header, meanings, meaning, run)
    ]
    return list(dict.fromkeys([*norms, *others]))


def _chosen(
    path: str | Path, header: Sequence[str], meanings: Mapping[str, str], read: Mapping[int, Column]
) -> dict[str, Column]:
    """A column that is not empty for each meaning, gradient norms first."""
    chosen: dict[str, Column] = {}
    run = None
    for meaning in (*NORMS, "lr", *AXES):
        found = [read[i] for i in matches(header, meanings, meaning, run) if read[i].given.any()]
        if found:
            several = meaning in ("step", *NORMS)  # of several columns of lr the first one counts
            chosen[meaning] = _one(path, found, meaning) if several else found[0]
            run = run or run_of(chosen[meaning].name)
        elif meaning == "update" and not chosen:
            names = ", ".join(column.name for column in read.values())
            raise ValueError(
                f"{path} has no gradient norm in its columns {names}: say which one has, with "
                "--column THEIRS=l2"
            )
    return chosen


def _one(path: str | Path, columns: Sequence[Column], meaning: str) -> Column:
    """Merge columns with the same meaning. Raises ValueError if they contradict each other."""
    first, *others = columns
    for other in others:
        both = first.given & other.given
        differ = (first.values[both] != other.values[both]).any()
        if differ or (other.name != first.name and not both.any()):
            names = ", ".join(dict.fromkeys(column.name for column in columns))
            what = "steps" if meaning == "step" else "gradient norms"
            raise ValueError(
                f"{path} has several columns of {what}, {names}: say which one counts, with "
                f'--column "{first.name}={meaning}", after giving each a name of its own'
            )
        values = np.where(first.given, first.values, other.values)
        first = Column(first.name, values, first.given | other.given)
    return first


# -- rows -------------------------------------------------------------------------------------


def _measured(columns: Mapping[str, Column]) -> np.ndarray:
    """A mask of the rows that have a gradient norm of any kind."""
    return np.logical_or.reduce([columns[n].given for n in GRADIENT_NORMS if n in columns])


def _with_gaps(column: Column) -> np.ndarray:
    return np.where(column.given, column.values, nan)


def _places(path: str | Path, columns: Mapping[str, Column], notes: list[str]) -> np.ndarray:
    """The position of each row in the run, nan if unknown; adds a note if it is not in steps."""
    measured = _measured(columns)
    step, epoch = columns.get("step"), columns.get("epoch")
    if step is not None and step.given[measured].any():
        if not np.isfinite(step.values[measured]).all():
            raise ValueError(
                f"{path} has rows without a step in {step.name}: say which column has them all, "
                "with --column THEIRS=step"
            )
        at = _with_gaps(step)
        if epoch is not None and (whole := counted_on(at, epoch.values)) is not None:
            notes.append(f"{step.name} begins anew with each {epoch.name}: steps are counted on")
            return whole
        if (at[measured] % 1 != 0).any():
            notes.append(f"{step.name} is no whole number: a row with a norm stands for a step")
        return at
    for name in COUNTS:
        count = columns.get(name)
        if count is not None and np.isfinite(count.values[measured]).all():
            notes.append(
                f"there is no column of steps: they are counted in {name}, by {count.name}; say "
                "how many steps the run made with --total-steps"
            )
            return _with_gaps(count)
    say = "say which column has them with --column THEIRS=step, or their number with --total-steps"
    if epoch is not None and np.isfinite(epoch.values[measured]).all():
        epochs = epoch.values[measured]
        if (np.diff(epochs) == 0).mean() <= REPEATED if len(epochs) > 1 else True:
            notes.append(
                f"there is no column of steps: rows stand in, at their {epoch.name}; {say}"
            )
            return np.where(measured, epoch.values, nan)
    notes.append(f"there is no column of steps: each row with a norm stands in for one; {say}")
    at = np.full(len(measured), nan)
    at[measured] = np.arange(measured.sum())
    return at


def _joined(
    at: np.ndarray, rows: np.ndarray, columns: Mapping[str, Column]
) -> tuple[np.ndarray, dict[str, Column]]:
    """Merge the rows of each step: returns the steps, and the columns at them.

    If several rows give a value for the same step, the last one counts.
    """
    places = at[rows] if (at[rows] % 1 == 0).all() else in_intervals(at[rows])
    steps, of_row = np.unique(places, return_inverse=True)
    joined = {}
    for name, column in columns.items():
        full = column.given[rows]
        values, given = np.full(len(steps), nan), np.zeros(len(steps), dtype=bool)
        values[of_row[full]] = column.values[rows][full]
        given[of_row[full]] = True
        joined[name] = Column(column.name, values, given)
    return steps, joined


# -- the whole run ----------------------------------------------------------------------------


def _total(
    path: str | Path,
    texts: Mapping[str, str],
    facts: Mapping[str, Any],
    steps: np.ndarray,
    last: float,
) -> tuple[int, str | None]:
    """The number of steps of the run, and a note if it was planned to make more."""
    stated = _number_of_run(path, "total_steps", texts)
    if stated is not None and not 0 < stated <= MOST_STEPS:
        raise ValueError(f"{path}: total_steps is {stated:g}, not a number of steps")
    if stated is not None:
        return int(stated), None
    total = max(first_and_total(steps)[1], int(last))
    made = facts.get("steps_made")
    if isinstance(made, int) and made >= steps[-1]:
        total = made
    wanted = facts.get("max_steps")
    if isinstance(wanted, int) and wanted > total:
        return (
            total,
            f"the run was to make {wanted} steps; its log, and so the schedule, has {total}",
        )
    return total, None


def _number_of_run(path: str | Path, name: str, texts: Mapping[str, str]) -> float | None:
    try:
        value = number(texts.get(name))
    except ValueError:
        raise ValueError(f"{path}: {name} is {texts[name]!r}, not a number") from None
    return None if value is None or isnan(value) else value


def _interpolated(
    steps: np.ndarray, lr: Column, records: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Learning rates at the records, interpolated linearly between the steps that have one."""
    if not lr.given[records].all():
        notes.append(f"{lr.name} stands at other steps than the norms: it is interpolated")
    return np.interp(steps[records], steps[lr.given], lr.values[lr.given])
