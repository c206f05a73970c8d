"""The table of an ablation: each cell compared with the first, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.ablation.file import Outcome
from selftune.ablation.names import in_markdown, shown
from selftune.ablation.paired_difference import CAUTION, Difference, finite_mean
from selftune.ablation.run import NONE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = ("schedule", "average", "metric", "difference", "", "steps")


@dataclass(frozen=True)
class Cell:
    """The results of one schedule at one average.

    values: the metric for each seed; nan where the run diverged.
    difference: from the first cell of the table, paired by seed; None for that cell itself, and
        if a run of either diverged.
    steps: number of steps of a run.
    to_record: number of steps of the earlier run that recorded the norms for this schedule, or 0.
    """

    schedule: str
    average: str
    values: tuple[float, ...]
    difference: Difference | None
    steps: int
    to_record: int

    @property
    def diverged(self) -> int:
        return sum(not math.isfinite(value) for value in self.values)


@dataclass(frozen=True)
class Ablation:
    """All cells of an ablation. `str` gives it as a text table."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    higher_is_better: bool

    @staticmethod
    def of(
        outcomes: Sequence[Outcome],
        steps: Mapping[str, int],
        to_record: Mapping[str, int],
        higher_is_better: bool,
    ) -> Ablation:
        """Collect outcomes into cells.

        steps: number of steps of a run, by schedule.
        to_record: the same for a schedule's recording run, if it has one.
        """
        values = {
            (name, average): tuple(o.metrics[average] for o in outcomes if o.schedule == name)
            for name in steps
            for average in outcomes[0].metrics
        }
        first, *_ = values.values()
        cells = [
            Cell(
                schedule=name,
                average=average,
                values=own,
                difference=None if own is first else Difference.of_finite(own, first),
                steps=steps[name],
                to_record=to_record.get(name, 0),
            )
            for (name, average), own in values.items()
        ]
        seeds = tuple(dict.fromkeys(outcome.seed for outcome in outcomes))
        return Ablation(tuple(cells), seeds, higher_is_better)

    def cell(self, schedule: str, average: str = NONE) -> Cell:
        for cell in self.cells:
            if (cell.schedule, cell.average) == (schedule, average):
                return cell
        names = ", ".join(f"{cell.schedule}/{cell.average}" for cell in self.cells)
        raise ValueError(f"no cell {schedule}/{average}; there are {names}")

    def verdict(self, cell: Cell) -> str:
        """ "better", "worse", or "" if the interval contains zero."""
        if cell.difference is None or not cell.difference.clear:
            return ""
        return "better" if (cell.difference.mean > 0) == self.higher_is_better else "worse"

    def rows(self, name_as: Callable[[str], str] = shown) -> list[tuple[str, ...]]:
        """The texts of the table's rows, below HEAD. name_as: escapes names."""
        rows = []
        for cell in self.cells:
            mean = finite_mean(cell.values)
            metric = "-" if math.isnan(mean) else f"{mean:.5g}"
            metric += f" ({cell.diverged} diverged)" if cell.diverged else ""
            difference = "" if cell.difference is None else str(cell.difference)
            # The recording run is shown apart, as it may have been needed anyway.
            steps = f"{cell.steps}" + (f" (+{cell.to_record})" if cell.to_record else "")
            name = (name_as(cell.schedule), name_as(cell.average))
            rows.append((*name, metric, difference, self.verdict(cell), steps))
        return rows

    def caption(self, name_as: Callable[[str], str] = shown) -> str:
        first, count = self.cells[0], len(self.seeds)
        one = f"{name_as(first.schedule)}/{name_as(first.average)}"
        of_seeds = f"means over {count} seeds" if count > 1 else "one seed, which shows no spread"
        parts = [
            f"{'Higher' if self.higher_is_better else 'Lower'} is better; {of_seeds}.",
            f"Differences are from {one}, seed by seed",
        ]
        if count > 1:
            parts[-1] += f", with 95 % intervals; {CAUTION}"
        parts[-1] += "."
        if count > 1 and all(len(set(cell.values)) == 1 for cell in self.cells):
            parts.append("All seeds came to the same values: does train use run.seed?")
        if any(cell.to_record for cell in self.cells):
            parts.append("In brackets: steps of the run that recorded the norms.")
        return " ".join(parts)

    def markdown(self) -> str:
        lines = [HEAD, tuple("---" for _ in HEAD), *self.rows(in_markdown)]
        table = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([*table, "", self.caption(in_markdown)])

    def __str__(self) -> str:
        rows = [HEAD, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, "", self.caption()])

    def picture(self) -> Figure:
        """A figure of the differences with their intervals. Needs matplotlib."""
        from selftune.ablation.picture import ablation_picture

        return ablation_picture(self)

    def save(self, folder: Path) -> None:
        """Write table.md into the folder, and picture.png if matplotlib is installed."""
        (folder / "table.md").write_text(self.markdown() + "\n", encoding="utf-8")
        try:
            figure = self.picture()
        except ImportError:
            return
        figure.savefig(folder / "picture.png", dpi=150)
