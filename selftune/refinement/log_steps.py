"""Where the rows of a log stand in its run: resumed runs, several runs, steps of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# Of the rows: how many of one run may repeat a step with another norm, or be out of order.
REPEATED = 0.1
# Of the run: what begins anew after so much of it is another run, and not the same one resumed.
ANOTHER_RUN = 0.5
ENDS = 10  # distances between records, at either end of a run, that tell how often it recorded


def one_run(path: str | Path, at: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The rows of the run as it went on to its end, and notes.

    at: where rows stand, as they were written, nan if nowhere; norms: nan where a row has none.
    After a resume the later row of a step counts, which the caller has to see to; what the earlier
    part recorded beyond the end of the last one is left out here.
    Raises ValueError where the rows are those of several runs.
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
    """Steps of the whole run for steps that begin anew with each epoch; None if they do not."""
    falls = np.flatnonzero(np.diff(at) < 0) + 1
    if not len(falls) or not (epochs[falls] > epochs[falls - 1]).all():
        return None
    rises = np.diff(at)
    spacing = np.median(rises[rises > 0]) if (rises > 0).any() else 1.0
    length = at.max() - at.min() + spacing
    return at + length * np.searchsorted(falls, np.arange(len(at)), side="right")


def in_intervals(at: np.ndarray) -> np.ndarray:
    """Whole numbers for places that are none, such as epochs: how many usual distances."""
    distances = np.diff(np.unique(at))
    return np.round(at / np.median(distances)) if len(distances) else np.zeros(len(at))


def first_and_total(steps: np.ndarray) -> tuple[int, int]:
    """What a run's first record would be called, and how many steps the records cover.

    Programs count from 0 or from 1, record every d steps at the first or at the last of them, and
    often the first and the last step besides: 0, d, ..., T - d and d, 2 d, ..., T are of T steps,
    and so are 1, d, ..., T and 0, d - 1, ..., T - 1.
    """
    first, last, gaps = int(steps[0]), int(steps[-1]), np.diff(steps)
    if not len(gaps):
        return min(first, 1), 1
    early, late = (max(1, int(np.median(g))) for g in (gaps[:ENDS], gaps[-ENDS:]))
    begin = min(first, early)
    zero = first == 0 or (early > 1 and first % early == early - 1)
    base = 0 if zero else 1
    besides = gaps[-1] < late  # the last step, recorded though it was not its turn
    turn = int(steps[-2] if besides else last) % late
    if besides or (turn + 1 - base) % late == 0:
        return begin, last - base + 1
    if (turn - base) % late == 0:
        return begin, last - base + late
    return begin, last - begin + late


def _parts(at: np.ndarray) -> list[slice]:
    """Stretches in which steps do not fall; one if rows are in no order to learn from."""
    if not len(at):
        return [slice(0, 0)]
    falls = (np.flatnonzero(np.diff(at) < 0) + 1).tolist()
    if len(falls) > REPEATED * len(at):
        falls = []
    return [slice(a, b) for a, b in zip([0, *falls], [*falls, len(at)], strict=True)]


def _contradictions(at: np.ndarray, norms: np.ndarray) -> int:
    """How many norms of a stretch differ from another norm of the same step."""
    order = np.argsort(at, kind="stable")
    same = np.diff(at[order]) == 0
    return int((same & (np.diff(norms[order]) != 0)).sum())


def _several_runs(path: str | Path, at: np.ndarray) -> str:
    return (
        f"{path} has {len(at)} rows for {len(np.unique(at))} steps: several runs? Choose one, "
        'with --where COLUMN=VALUE or where={"COLUMN": "VALUE"}, or its column, with --column '
        "THEIRS=l2"
    )
