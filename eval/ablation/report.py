"""The report of an ablation: ablation.md, .csv and .html, and a figure for each method."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..files import file_name, write_text
from ..reporting.legible import csv_text, legible, markdown
from ..reporting.text import markdown_table, text_table
from ..results import Record
from .axes import Axes
from .cells import Cell, cells
from .tables import gains_table, grid, metrics_table, steps_table

TITLE = "selftune: was it the schedule, the averaging or the seed?"
CAPTION = (
    "Gain over the first row of the table: studies (dots), mean (bar), 95 % interval (line). Red "
    "and blue if the interval excludes zero; a cross if a trial failed."
)
CSV_COLUMNS = (
    *("method", "workload", "schedule", "averaging", "study", "metric", "higher_is_better"),
    *("final_validation", "test", "steps_to_target", "steps_of_recording"),
)


def report(records: Sequence[Record], axes: Axes, out: Path) -> None:
    """Print the table of an ablation and write its files into `out`."""
    # These import matplotlib, which nothing else here needs.
    from ..reporting.html import document, figure, html_table
    from ..reporting.svg import standalone
    from .plots import gains

    records = legible(records)
    found = cells(records, axes)
    if not found:
        print("no finished trial: nothing to report")
        return
    methods = list(dict.fromkeys(cell.method for cell in found))
    grids = {method: grid(found, method) for method in methods}
    tables = [
        table(method, rows)
        for method, rows in grids.items()
        for table in (gains_table, metrics_table, steps_table)
    ]
    notes = warnings(records)
    pictures = {method: gains(method, rows) for method, rows in grids.items()}
    names = {method: f"{file_name(method)}.svg" for method in methods}
    files = {names[method]: standalone(picture) for method, picture in pictures.items()}
    parts = [
        f"## {markdown(table.title)}\n\n{markdown_table(table)}\n\n{markdown(table.caption)}"
        for table in tables
    ]
    listed = ["\n".join(f"- {markdown(note)}" for note in notes)] if notes else []
    shown = [
        f"![{markdown(method)}: gains]({quote(names[method])})\n\n{CAPTION}" for method in methods
    ]
    files["ablation.md"] = "\n\n".join([f"# {TITLE}", *shown, *listed, *parts]) + "\n"
    files["ablation.csv"] = _csv(found)
    page = [f"<h1>{TITLE}</h1>", *(f'<p class="note">Note: {escape(note)}.</p>' for note in notes)]
    page += [figure(picture, CAPTION) for picture in pictures.values()]
    page += [html_table(table, {}) for table in tables]
    files["ablation.html"] = document(TITLE, page)
    for name, text in files.items():
        write_text(out / name, text)
    for method, rows in grids.items():
        print(text_table(gains_table(method, rows)), end="\n\n")
        print(text_table(steps_table(method, rows)), end="\n\n")
    print("".join(f"Note: {note}.\n" for note in notes), end="")
    print(f"written: {', '.join(str(out / name) for name in files)}")


def warnings(records: Sequence[Record]) -> list[str]:
    """The warnings of the diagnostics about refinements, with the studies concerned."""
    found: dict[tuple[str, str], list[int]] = {}
    for record in records:
        for warning in record.get("objections", ()):
            found.setdefault((record["workload"], warning), []).append(record["study"])
    return [
        f"refined on {workload}, {'study' if len(studies) == 1 else 'studies'} "
        f"{', '.join(map(str, studies))}: {warning}"
        for (workload, warning), studies in found.items()
    ]


def _csv(found: Sequence[Cell]) -> str:
    rows = []
    for cell in found:
        hint = cell.rules["step_hint"]
        for study in cell.finals:
            name = (cell.method, cell.workload, cell.schedule, cell.average, study)
            metric = (cell.rules["metric"], cell.rules["higher_is_better"])
            values = (cell.finals[study], cell.tests[study])
            steps = (cell.steps_to_aim[study] * hint, round(cell.recording * hint))
            rows.append((*name, *metric, *values, *steps))
    return csv_text([CSV_COLUMNS, *rows])
