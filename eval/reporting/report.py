"""From the records of a run to what a researcher reads: a table, and three files.

records --+
          v
assemble(records, baselines) --> tables --> terminal, results.md, report.html
                  |                plots --> report.html
                  +--> results.csv, one row per trial
"""

import csv
import textwrap
from collections.abc import Sequence
from pathlib import Path

from .. import baselines
from ..methods import METHODS
from ..pool import Pool, assemble
from ..scoring import Record
from . import verdict
from .tables import Tables, steps_table
from .text import markdown_table, text_table

TITLE = "selftune: eight pocket workloads, one configuration each"

CSV_COLUMNS = (
    *("source", "method", "workload", "study", "outcome", "reason", "steps_to_target"),
    *("seconds_to_target", "step_hint", "target", "metric", "best_validation", "final_validation"),
    *("test", "steps", "training_seconds", "evaluation_seconds", "budget", "seed", "data"),
    *("configuration", "torch", "device"),
)


def report(records: Sequence[Record], out: Path) -> None:
    """Print the table of a run and write results.md, results.csv and report.html into `out`."""
    # These import matplotlib and every workload's libraries; nothing else here needs them.
    from ..workloads import WORKLOADS
    from .html import page

    if not records:
        print("no finished trial: nothing to report")
        return
    pool = assemble(records, baselines.read(), list(WORKLOADS))
    weight_decays = {method.summary: method.weight_decay for method in METHODS.values()}
    tables = Tables.of(pool, weight_decays)
    print(as_text(pool, tables))
    _write(out / "results.md", as_markdown(pool, tables))
    _write_csv(out / "results.csv", pool)
    _write(out / "report.html", page(TITLE, pool, tables))
    print(f"\nwritten: {out / 'results.md'}, {out / 'results.csv'}, {out / 'report.html'}")


def as_text(pool: Pool, tables: Tables) -> str:
    """For the terminal, in ASCII: the two clocks, what went wrong, and where the run stands."""
    steps = steps_table(pool, spread=False)  # a narrow one
    parts = [verdict.rules(pool), text_table(steps), text_table(tables.seconds)]
    if tables.troubles.rows:
        parts.append(text_table(tables.troubles))
    parts += [f"Note: {note}." for note in pool.notes]
    parts += [*verdict.standings(pool), verdict.POCKET_SCALE]
    return "\n\n".join(p if "\n" in p else textwrap.fill(p, 100) for p in parts)


def as_markdown(pool: Pool, tables: Tables) -> str:
    parts = [f"# {TITLE}", f"Rules: {verdict.rules(pool)}.", *verdict.standings(pool)]
    parts += [f"Note: {note}." for note in pool.notes]
    for table in tables:
        parts += [f"## {table.title}", *([markdown_table(table)] if table.rows else [])]
        parts += [table.caption] if table.caption else []
    parts += ["## What this can tell", verdict.POCKET_SCALE]
    return "\n\n".join(parts) + "\n"


def _write_csv(path: Path, pool: Pool) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for entrant in pool.entrants:
            source = "recorded" if entrant.recorded else "this run"
            for trials in entrant.trials.values():
                writer.writerows((source, *_csv_row(trial)) for trial in trials)


def _csv_row(trial: Record) -> tuple[object, ...]:
    rules, seconds, versions = trial["rules"], trial["seconds"], trial["versions"]
    return (
        *(trial[key] for key in ("method", "workload", "study", "outcome", "reason")),
        *(trial["steps_to_target"], seconds["to_target"], rules["step_hint"]),
        *(rules["target"], rules["metric"], trial["best_validation"], trial["final_validation"]),
        *(trial["test"], trial["steps"], seconds["training"], seconds["evaluation"]),
        *(rules["budget"], rules["seed"], rules["data"], rules["method"]),
        *(versions["torch"], versions["device"]),
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
