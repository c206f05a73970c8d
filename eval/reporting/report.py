"""The report of a run: a table in the terminal, results.md, results.csv and report.html.

records --+
          v
assemble(records, baselines) --> tables --> terminal, results.md, report.html
                  |                plots --> report.html
                  +--> results.csv, one row per trial
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import baselines
from ..files import write_text
from ..intervals import oracle_intervals, score_intervals
from ..methods import METHODS
from ..oracle import Oracle, ratio
from ..pool import Pool, assemble, scored
from ..results import Record
from ..step_times import StepTimes, in_use
from ..workload import Workload
from . import verdict
from .contents import Tables
from .legible import csv_text, legible, markdown, paragraph
from .provenance import Provenance
from .scales import oracle_table
from .tables import steps_table
from .text import markdown_table, text_table

CSV_COLUMNS = (
    *("source", "method", "workload", "study", "outcome", "reason", "steps_to_target"),
    *("seconds_to_target", "step_hint", "target", "metric", "best_validation", "final_validation"),
    *("test", "steps", "training_seconds", "evaluation_seconds", "budget", "seed", "data"),
    *("configuration", "python", "torch", "selftune", "device"),
    # Columns about the method, the same in all its rows, which a citation of the score needs.
    *("score", "score_low", "score_high", "oracle_ratio", "oracle_low", "oracle_high"),
    *("studies", "rules", "command", "date"),
    "step_ms",  # of the method on this workload, by a calibration
)


def report(
    records: Sequence[Record],
    out: Path,
    command: str = "unknown",
    workloads: Sequence[Workload] = (),
) -> None:
    """Write results.md, results.csv and report.html into `out`, then print the table of a run.

    command: as it was typed. workloads: the user's own ones, whose searches are recorded in the
    folders of their files.
    """
    # These import matplotlib and every workload's libraries, which nothing else here needs.
    from ..targets.besides import Besides
    from ..workloads import SUITES, WORKLOADS
    from .html import page

    records = legible(scored(records))
    if not records:
        print("no finished trial: nothing to report")
        return
    suites = {suite: [workload.name for workload in SUITES[suite]] for suite in SUITES}
    pool = assemble(records, legible(baselines.read()), _order(records, suites))
    weight_decays = {method.summary: method.weight_decay for method in METHODS.values()}
    besides = Besides.of([*WORKLOADS.values(), *workloads], pool.rules)
    times = in_use(out)
    tables = Tables.of(pool, weight_decays, besides, times)
    heading = title(pool.workloads, suites)
    provenance = Provenance.now(command)
    files = {
        "results.md": as_markdown(heading, pool, tables, provenance),
        "results.csv": as_csv(pool, provenance, besides.steps, times),
        "report.html": page(heading, pool, tables, provenance, besides.settled),
    }
    for name, text in files.items():
        write_text(out / name, text)
    print(as_text(pool, tables, besides.steps))
    print(f"\nwritten: {', '.join(str(out / name) for name in files)}")


def title(workloads: Sequence[str], suites: Mapping[str, Sequence[str]]) -> str:
    """The title: the name of a suite or of one workload, or the number of workloads."""
    what = f"{len(workloads)} workloads" if len(workloads) > 1 else workloads[0]
    for suite, members in suites.items():
        if set(workloads) == set(members):
            which = "both suites" if suite == "all" else f"the {suite} suite"
            what = f"the {len(members)} workloads of {which}"
            break
    return f"selftune: {what}, one configuration each"


def _order(records: Sequence[Record], suites: Mapping[str, Sequence[str]]) -> list[str]:
    """All workloads of the suites from which the run has a workload, in the suites' order."""
    names = {record["workload"] for record in records}
    parts = [members for suite, members in suites.items() if suite != "all"]
    touched = [members for members in parts if names & {*members}]
    return list(dict.fromkeys(name for members in touched for name in members))


def as_text(pool: Pool, tables: Tables, searched: Oracle) -> str:
    """The report for the terminal, in ASCII: steps, seconds, failures, and the run's rank."""
    # Two narrow tables
    shown = [steps_table(pool, spread=False), oracle_table(pool, searched, by_workload=False)]
    shown += [tables.pairs, tables.calibrated, tables.seconds, tables.troubles]
    parts = [verdict.rules(pool), *(text_table(table) for table in shown if table.rows)]
    parts += [f"Note: {note}." for note in pool.notes]
    parts += [*verdict.standings(pool), verdict.POCKET_SCALE]
    return "\n\n".join(p if "\n" in p else textwrap.fill(p, 100) for p in parts)


def as_markdown(heading: str, pool: Pool, tables: Tables, provenance: Provenance) -> str:
    standings = map(paragraph, verdict.standings(pool))
    parts = [f"# {markdown(heading)}", markdown(f"Rules: {verdict.rules(pool)}."), *standings]
    parts += [markdown(f"Note: {note}.") for note in pool.notes]
    for table in tables:
        parts += [f"## {table.title}", *([markdown_table(table)] if table.rows else [])]
        parts += [markdown(table.caption)] if table.caption else []
    parts += ["## What this can tell", verdict.POCKET_SCALE, "## How this was made"]
    parts += ["\n".join(f"- {what}: {markdown(value)}" for what, value in provenance.lines(pool))]
    return "\n\n".join(parts) + "\n"


def as_csv(pool: Pool, provenance: Provenance, searched: Oracle, times: StepTimes | None) -> str:
    """CSV with a row for each trial."""
    intervals = score_intervals(pool)
    oracles = oracle_intervals(pool, searched) if searched else {}
    rules = verdict.rules(pool)
    rows = []
    for entrant in (*pool.entrants, *pool.unranked):
        source = "recorded" if entrant.recorded else "this run"
        score: tuple[object, ...] = (None,) * 6
        if entrant.name in pool.steps:
            name = entrant.name
            its = (ratio(pool, name, searched), *oracles[name]) if searched else (None,) * 3
            score = (pool.steps[name].score, *intervals[name], *its)
        made = (*score, entrant.num_studies, rules, provenance.command, provenance.date)
        ms = {} if times is None else times.of(pool, entrant)
        for workload, trials in entrant.trials.items():
            rows += [(source, *_csv_row(trial), *made, ms.get(workload)) for trial in trials]
    return csv_text([CSV_COLUMNS, *rows])


def _csv_row(trial: Mapping[str, Any]) -> tuple[object, ...]:
    rules, seconds, versions = trial["rules"], trial["seconds"], trial["versions"]
    return (
        *(trial[key] for key in ("method", "workload", "study", "outcome", "reason")),
        *(trial["steps_to_target"], seconds["to_target"], rules["step_hint"]),
        *(rules["target"], rules["metric"], trial["best_validation"], trial["final_validation"]),
        *(trial["test"], trial["steps"], seconds["training"], seconds["evaluation"]),
        *(rules["budget"], rules["seed"], rules["data"], rules["method"]),
        *(versions.get(name) for name in ("python", "torch", "selftune", "device")),
    )
