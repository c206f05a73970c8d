"""The tables of an ablation: gains over the baseline, metrics, and steps to the target."""

from collections.abc import Sequence
from math import isfinite, isnan

from selftune.ablation.paired_difference import CAUTION

from ..reporting.tables import Cell as Text
from ..reporting.tables import Table, number
from .cells import Cell

Grid = dict[tuple[str, str], dict[str, Cell]]  # (schedule, average) -> workload -> cell


def grid(cells: Sequence[Cell], method: str) -> Grid:
    rows: Grid = {}
    for cell in cells:
        if cell.method == method:
            rows.setdefault((cell.schedule, cell.average), {})[cell.workload] = cell
    return rows


def gains_table(method: str, rows: Grid) -> Table:
    """The table of an ablation: gains over the baseline with intervals, and the clear ones."""
    baseline, workloads = next(iter(rows.values())), _workloads(rows)
    lines = []
    for name, row in rows.items():
        gains = {w: row[w].gain(baseline[w]) for w in row if w in baseline}
        clear = [gain for gain in gains.values() if gain is not None and gain.clear]
        better = sum(gain.mean > 0 for gain in clear)
        counts = ["-"] if row is baseline else [f"{better} / {len(clear) - better}"]
        texts = [
            Text(
                "baseline" if row is baseline else _gain(row.get(w), gains.get(w)),
                best=(gain := gains.get(w)) is not None and gain.clear and gain.mean > 0,
            )
            for w in workloads
        ]
        lines.append((*map(Text, (*name, *counts)), *texts))
    studies = max(len(cell.finals) for row in rows.values() for cell in row.values())
    first = "/".join(next(iter(rows)))
    return Table(
        f"{method}: gain over {first} in the final validation metric",
        ("schedule", "averaging", "better / worse", *workloads),
        tuple(lines),
        f"Mean differences over {studies} paired studies (equal seeds) with 95 % intervals by "
        "Student's t, in the metric's units; positive is better everywhere. Better / worse: the "
        f"number of workloads whose interval excludes zero; {CAUTION}.",
        text_columns=2,
    )


def metrics_table(method: str, rows: Grid) -> Table:
    workloads = _workloads(rows)
    lines = [
        (
            *map(Text, name),
            *(Text(_metric(row[w]) if w in row else "") for w in workloads),
        )
        for name, row in rows.items()
    ]
    return Table(
        f"{method}: final validation metric",
        ("schedule", "averaging", *workloads),
        tuple(lines),
        "Means over the studies that did not fail.",
        text_columns=2,
    )


def steps_table(method: str, rows: Grid) -> Table:
    workloads = _workloads(rows)
    lines = [
        (*map(Text, name), *(Text(_steps(row[w]) if w in row else "") for w in workloads))
        for name, row in rows.items()
    ]
    return Table(
        f"{method}: steps to the target, as a fraction of step_hint",
        ("schedule", "averaging", *workloads),
        tuple(lines),
        "Median over the studies; - if half of them do not reach the target. In brackets: "
        "including the run that recorded the norms, which costs nothing only if it was needed "
        "anyway. Every run is as long as its schedule; targets were set by runs with a cosine "
        "schedule.",
        text_columns=2,
    )


def _workloads(rows: Grid) -> list[str]:
    return list(dict.fromkeys(workload for row in rows.values() for workload in row))


def _gain(cell: Cell | None, gain: object) -> str:
    if cell is None:
        return ""
    return "-" + _failures(cell) if gain is None else str(gain)


def _metric(cell: Cell) -> str:
    return number(None if isnan(cell.final) else cell.final) + _failures(cell)


def _failures(cell: Cell) -> str:
    return f" ({cell.failed} failed)" if cell.failed else ""


def _steps(cell: Cell) -> str:
    if not isfinite(cell.median_steps):
        return "-"
    steps = f"{cell.median_steps:.2f}"
    return steps + (f" ({cell.median_steps + cell.recording:.2f})" if cell.recording else "")
