"""The report of a contest: tables for the terminal, and score.md, score.html, score.csv."""

import textwrap
from pathlib import Path

from ..files import write_text
from ..reporting.legible import csv_text, markdown, paragraph
from ..reporting.tables import Table
from ..reporting.text import markdown_table, text_table
from . import tables
from .contest import Contest, is_official
from .scores import official_score

UNKNOWN = (
    "This report cannot tell whether data, targets and the runner were the official ones (it "
    "trusts the logs); whether a submission identified the workload; how much of a difference "
    "comes from the framework and not from the method (published submissions are in JAX or "
    "PyTorch, and a step of one may take twice as long as the other's); and, from three or five "
    "studies, small differences: see the spread over seeds. A score depends on the other "
    "submissions in its pool."
)
NO_SWEEP = (
    "Scores at relaxed targets are not shown: the learning curves of the external tuning ruleset "
    "are not part of the published table."
)


def report(contest: Contest, out: Path | None) -> None:
    """Write the contest into `out`, if there is one, and print it."""
    if out:
        # Imported here because it imports matplotlib.
        from .page import page

        write_text(out / "score.md", as_markdown(contest))
        write_text(out / "score.html", page(contest, all_tables(contest), texts(contest)))
        write_text(out / "score.csv", as_csv(contest))
    print(as_text(contest))
    if out:
        print(f"\nwritten: {out / 'score.md'}, {out / 'score.csv'}, {out / 'score.html'}")


def as_text(contest: Contest) -> str:
    """The report for the terminal; it leaves out the failures of other entrants."""
    shown = [tables.leaderboard(contest), tables.times(contest, "seconds")]
    shown += [tables.sweep(contest)] if contest.can_relax else []
    shown += [tables.failures(contest, recorded=False)]
    parts = [
        *(text_table(table) for table in shown if table.rows),
        *(textwrap.fill(text, 100) for text in texts(contest)),
    ]
    return "\n\n".join(parts)


def leaderboard_text(contest: Contest) -> str:
    """A published field's leaderboard, at its targets and at relaxed ones."""
    assert contest.field is not None
    field = contest.field
    texts = [f"Source: {field.source}.", *([field.caution] if field.caution else [])]
    shown = f"{text_table(tables.leaderboard(contest))}\n{textwrap.fill(' '.join(texts), 100)}"
    return f"{shown}\n\n{text_table(tables.sweep(contest))}" if contest.can_relax else shown


def differences(contest: Contest) -> list[str]:
    """The published scores that are not reproduced, one line for each."""
    assert contest.field is not None
    pairs = {
        name: (published, official_score(contest.seconds[name]))
        for name, published in contest.field.scores.items()
    }
    return [
        f"{contest.field.name}: {name} was given {published:.4f} and is {ours:.4f}"
        for name, (published, ours) in pairs.items()
        if f"{published:.4f}" != f"{ours:.4f}"
    ]


def as_markdown(contest: Contest) -> str:
    parts = [f"# {title(contest)}"]
    for table in all_tables(contest):
        parts += [f"## {table.title}", *([markdown_table(table)] if table.rows else [])]
        parts += [markdown(table.caption)] if table.caption else []
    return "\n\n".join([*parts, *map(paragraph, texts(contest))]) + "\n"


def all_tables(contest: Contest) -> list[Table]:
    return [
        tables.leaderboard(contest),
        tables.times(contest, "seconds"),
        tables.times(contest, "steps"),
        *([tables.sweep(contest)] if contest.can_relax else []),
        tables.spread(contest),
        tables.failures(contest, recorded=True),
    ]


def title(contest: Contest) -> str:
    if contest.field is None:
        return f"Scores by the rules of AlgoPerf {contest.rules.name}"
    return f"Scores in one pool with: {contest.field.title}"


def texts(contest: Contest) -> list[str]:
    """The notes beside the tables."""
    rules, field = contest.rules, contest.field
    said = [
        f"Rules: AlgoPerf {rules.name}, median of {rules.studies} studies, budget "
        f"{rules.budget:g} x runtime in the self-tuning ruleset, {len(rules.workloads)} workloads, "
        f"{len(rules.held_out)} held-out ones, {rules.hardware}."
    ]
    for entrant in contest.run:
        score = official_score(contest.seconds[entrant.name])
        what = (
            "an AlgoPerf score, self-measured"
            if is_official(contest, entrant)
            else "not an AlgoPerf score, for the reasons in the notes"
        )
        said.append(f"{entrant.name} scores {score:.4f} by seconds: {what}.")
    said += [f"Note: {note}." for note in contest.notes]
    said += [] if contest.can_relax else [NO_SWEEP]
    said += [field.caution] if field and field.caution else []
    return [*said, UNKNOWN]


def as_csv(contest: Contest) -> str:
    """CSV with a row for every study of every entrant."""
    columns = ("seconds_to_target", "steps_to_target", "best_validation", "steps", "seconds")
    rows: list[tuple[object, ...]] = [
        ("submission", "source", "workload", "study", "outcome", *columns)
    ]
    for entrant in contest.entrants:
        source = contest.field.name if entrant.recorded and contest.field else "run"
        for workload, trials in entrant.trials.items():
            rows += [
                (
                    *(entrant.name, source, workload, trial["study"], trial["outcome"]),
                    *(trial["seconds"]["to_target"], trial["steps_to_target"]),
                    *(trial["best_validation"], trial["steps"], trial["seconds"]["training"]),
                )
                for trial in trials
            ]
    return csv_text(rows)
