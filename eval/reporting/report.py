"""From the records of a run to what a researcher reads: a table, and three files.

records --+
          v
assemble(records, baselines) --> tables --> terminal, results.md, report.html
                  |                plots --> report.html
                  +--> results.csv, one row per trial
"""

import csv
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import baselines
from ..methods import METHODS
from ..pool import Pool, assemble
from ..scoring import Record
from . import verdict
from .tables import Tables, steps_table
from .text import markdown_table, text_table

CSV_COLUMNS = (
    *("source", "method", "workload", "study", "outcome", "reason", "steps_to_target"),
    *("seconds_to_target", "step_hint", "target", "metric", "best_validation", "final_validation"),
    *("test", "steps", "training_seconds", "evaluation_seconds", "budget", "seed", "data"),
    *("configuration", "torch", "device"),
)


def report(records: Sequence[Record], out: Path) -> None:
    """Print the table of a run and write results.md, results.csv and report.html into `out`."""
    # These import matplotlib and every workload's libraries; nothing else here needs them.
    from ..workloads import SUITES
    from .html import page

    if not records:
        print("no finished trial: nothing to report")
        return
    suites = {suite: [workload.name for workload in SUITES[suite]] for suite in SUITES}
    pool = assemble(records, baselines.read(), _order(records, suites))
    weight_decays = {method.summary: method.weight_decay for method in METHODS.values()}
    tables, heading = Tables.of(pool, weight_decays), title(pool.workloads, suites)
    print(as_text(pool, tables))
    _write(out / "results.md", as_markdown(heading, pool, tables))
    _write_csv(out / "results.csv", pool)
    _write(out / "report.html", page(heading, pool, tables))
    print(f"\nwritten: {out / 'results.md'}, {out / 'results.csv'}, {out / 'report.html'}")


def title(workloads: Sequence[str], suites: Mapping[str, Sequence[str]]) -> str:
    """What ran: a suite, one workload, or so many."""
    what = f"{len(workloads)} workloads" if len(workloads) > 1 else workloads[0]
    for suite, members in suites.items():
        if set(workloads) == set(members):
            which = "both suites" if suite == "all" else f"the {suite} suite"
            what = f"the {len(members)} workloads of {which}"
            break
    return f"selftune: {what}, one configuration each"


def _order(records: Sequence[Record], suites: Mapping[str, Sequence[str]]) -> list[str]:
    """The workloads of each suite that the run has any of, in the suite's order."""
    names = {record["workload"] for record in records}
    parts = [members for suite, members in suites.items() if suite != "all"]
    touched = [members for members in parts if names & {*members}]
    return list(dict.fromkeys(name for members in touched for name in members))


def as_text(pool: Pool, tables: Tables) -> str:
    """For the terminal, in ASCII: the two clocks, what went wrong, and where the run stands."""
    steps = steps_table(pool, spread=False)  # a narrow one
    parts = [verdict.rules(pool), text_table(steps), text_table(tables.seconds)]
    if tables.troubles.rows:
        parts.append(text_table(tables.troubles))
    parts += [f"Note: {note}." for note in pool.notes]
    parts += [*verdict.standings(pool), verdict.POCKET_SCALE]
    return "\n\n".join(p if "\n" in p else textwrap.fill(p, 100) for p in parts)


def as_markdown(heading: str, pool: Pool, tables: Tables) -> str:
    parts = [f"# {heading}", f"Rules: {verdict.rules(pool)}.", *verdict.standings(pool)]
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
        for entrant in (*pool.entrants, *pool.unranked):
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
