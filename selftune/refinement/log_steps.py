"""Positions of a log's rows in the run: resumed runs, several runs, and steps within epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# The largest fraction of one run's rows that may repeat a step with another norm, or be out of
# order.
REPEATED = 0.1
# Steps that start over after at least this fraction of the run mean another run, not a resume.
ANOTHER_RUN = 0.5
ENDS = 10  # gaps between records, at either end of a run, from which its spacing is taken


def one_run(path: str | Path, at: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The rows that belong to the final history of a run, and notes.

    at: the position of each row, in the order of writing; nan if unknown.
    norms: nan where a row has none.
    After a resume, rows that the earlier part wrote beyond the end of the last part are left out.
    A step may still occur twice: the caller has to take the later row.
    Raises ValueError if the rows come from several runs.
    """
    measured = np.flatnonzero(np.isfinite(at) & np.isfinite(norms))
    rows, placed = np.flatnonzero(np.isfinite(at)), at
    at, norms = at[measured], norms[measured]
    parts = _parts(at)
    if any(_contradictions(at[p], norms[p]) > REPEATED * len(at[p]) for p in parts):
        raise ValueError(_several_runs(path, at))
    for part in parts[1:]:
        before = at[: part.start]
        anew = at[part.start] <= before.min() <= at[part.stop - 1]
        if anew and np.ptp(before) >= ANOTHER_RUN * np.ptp(at):
            raise ValueError(_several_runs(path, at))
    begin = parts[-1].start
    if not begin:
        return rows, []
    notes, end = [], at[-1]
    twice = sum(len(np.unique(at[p])) for p in parts) - len(np.unique(at))
    if twice:
        notes.append(
            f"{twice} steps are there twice, as where a run resumes, from {at[begin]:g} on: "
            "the later rows count"
        )
    lost = (rows < measured[begin]) & (placed[rows] > end)
    if lost.any() and len(at) - begin > 1 and end >= at[:begin].min():
        notes.append(f"{lost.sum()} rows after {end:g} are of a part that was not gone on with")
        rows = rows[~lost]
    return rows, notes


def counted_on(at: np.ndarray, epochs: np.ndarray) -> np.ndarray | None:
    """Steps of the whole run from steps that restart in each epoch; None if they do not restart."""
    falls = np.flatnonzero(np.diff(at) < 0) + 1
    if not len(falls) or not (epochs[falls] > epochs[falls - 1]).all():
        return None
    rises = np.diff(at)
    spacing = np.median(rises[rises > 0]) if (rises > 0).any() else 1.0
    length = at.max() - at.min() + spacing
    return at + length * np.searchsorted(falls, np.arange(len(at)), side="right")


def in_intervals(at: np.ndarray) -> np.ndarray:
    """Whole numbers from fractional positions such as epochs, in units of the usual distance."""
    distances = np.diff(np.unique(at))
    return np.round(at / np.median(distances)) if len(distances) else np.zeros(len(at))


def first_and_total(steps: np.ndarray) -> tuple[int, int]:
    """The number that a run's first record has, and the number of steps that the records cover.

    Programs count from 0 or from 1, record once in d steps, at the first or at the last of them,
    and often record the first and the last step of the run in addition. So these all cover T steps:
    0, d, ..., T - d;  d, 2 d, ..., T;  1, d, ..., T;  0, d - 1, ..., T - 1.
    """
    first, last, gaps = int(steps[0]), int(steps[-1]), np.diff(steps)
    if not len(gaps):
        return min(first, 1), 1
    early, late = (max(1, int(np.median(g))) for g in (gaps[:ENDS], gaps[-ENDS:]))
    begin = min(first, early)
    zero = first == 0 or (early > 1 and first % early == early - 1)
    base = 0 if zero else 1
    besides = gaps[-1] < late  # the last step was recorded in addition
    turn = int(steps[-2] if besides else last) % late
    if besides or (turn + 1 - base) % late == 0:
        return begin, last - base + 1
    if (turn - base) % late == 0:
        return begin, last - base + late
    return begin, last - begin + late


def _parts(at: np.ndarray) -> list[slice]:
    """Stretches of rows with non-decreasing steps; a single one if the rows are not in order."""
    if not len(at):
        return [slice(0, 0)]
    falls = (np.flatnonzero(np.diff(at) < 0) + 1).tolist()
    if len(falls) > REPEATED * len(at):
        falls = []
    return [slice(a, b) for a, b in zip([0, *falls], [*falls, len(at)], strict=True)]


def _contradictions(at: np.ndarray, norms: np.ndarray) -> int:
    """The number of norms that differ from another norm of the same step."""
    order = np.argsort(at, kind="stable")
    same = np.diff(at[order]) == 0
    return int((same & (np.diff(norms[order]) != 0)).sum())


def _several_runs(path: str | Path, at: np.ndarray) -> str:
    return (
        f"{path} has {len(at)} rows for {len(np.unique(at))} steps: several runs? Choose one, "
        'with --where COLUMN=VALUE or where={"COLUMN": "VALUE"}, or its column, with --column '
        "THEIRS=l2"
    )
