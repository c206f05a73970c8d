"""Scores of official runs: `python -m eval.score RUNS --against published-v0.5`."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from . import baselines, results
from .algoperf import logs, projection, report, tables
from .algoperf.benchmark import V05, VERSIONS, Rules, version
from .algoperf.contest import assemble
from .algoperf.published import FIELDS, Field, field
from .cli import DONE, SOME_FAILED, Parser, multiple, run
from .pool import scored
from .reporting.legible import legible, shown
from .reporting.text import text_table
from .results import Record

NOBODY = "none"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("eval.score", "Score runs of AlgoPerf's workloads, or the published ones.")
    parser.add_argument(
        "runs", nargs="*", type=Path, help="official logs or results.jsonl, files or folders"
    )
    parser.add_argument(
        "--against", default="published-v0.5", help=f"{', '.join(FIELDS)} or {NOBODY}"
    )
    parser.add_argument(
        "--rules",
        help=f"where no field has its own: {', '.join(VERSIONS)}; {V05.name} unless given",
    )
    parser.add_argument("--published", action="store_true", help="recompute the published scores")
    parser.add_argument("--project", metavar="METHOD", help="what a full run of it would cost")
    parser.add_argument("--price", type=multiple, help="with --project: of an hour of the machine")
    parser.add_argument("--out", type=Path, help="a folder for the report as files")
    parser.add_argument("--export", type=Path, help="a folder for the runs as official logs")
    options = parser.parse_args(arguments)
    try:
        _refuse_unread(options)
        if options.published:
            return _published(options.runs)
        if options.project:
            return _project(options)
        opponents = None if options.against == NOBODY else field(options.against)
        rules = opponents.rules if opponents else version(options.rules or V05.name)
        runs = _runs(options.runs, rules, opponents)
        if options.export:
            _export(runs, options.export)
        report.report(assemble(legible(runs), opponents, rules), options.out)
    except (ValueError, OSError) as error:
        parser.refuse(error)
    return DONE


def _refuse_unread(options: Namespace) -> None:
    """Raise ValueError for an option that has no effect in this call."""
    scores_runs = not (options.published or options.project)
    own_rules = options.published or (scores_runs and options.against != NOBODY)
    unread = {
        "--price goes with --project METHOD": options.price is not None and not options.project,
        "--out goes with runs to score": options.out is not None and not scores_runs,
        "--export goes with runs to score": options.export is not None and not scores_runs,
        f"--rules goes with --against {NOBODY} or --project": bool(options.rules) and own_rules,
    }
    for sentence, here in unread.items():
        if here:
            raise ValueError(sentence)


def _runs(paths: Sequence[Path], rules: Rules, opponents: Field | None) -> list[Record]:
    """The records in all paths. Raises ValueError if there is none, or one occurs twice."""
    if not paths:
        raise ValueError("name the runs to score: a folder of official logs, or a results.jsonl")
    ruleset = opponents.ruleset if opponents else "self-tuning"
    found: list[Record] = []
    for path in paths:
        found += _records(path)
        if not _file(path).is_file():
            for folder in logs.submissions(path):
                found += logs.read(folder, rules, ruleset)
    keys = [results.key(record) for record in found]
    for key in keys:
        if keys.count(key) > 1:
            name = shown(" ".join(map(str, key)))
            raise ValueError(f"{name} is there twice; rename one submission")
    if not found:
        raise ValueError(f"no finished run in {', '.join(map(str, paths))}")
    return found


def _records(path: Path) -> list[Record]:
    """The records in a results.jsonl, or in that of a folder; none if there is no such file."""
    if not path.exists():
        raise ValueError(f"no such file or folder: {path}")
    return scored(results.read(_file(path))) if _file(path).is_file() else []


def _file(path: Path) -> Path:
    return path / "results.jsonl" if path.is_dir() else path


def _export(runs: Sequence[Record], folder: Path) -> None:
    left_out = logs.write(runs, folder)
    print(f"written: {folder / 'logs'} and {folder / 'workload_targets.json'}")
    for record in left_out:
        name = shown(" ".join(map(str, results.key(record))))
        print(f"without any evaluation, not written: {name}")


def _published(runs: Sequence[Path]) -> int:
    """Every published leaderboard with our recomputed scores; whether they are equal."""
    if runs:
        raise ValueError(f"--published scores no other runs, got {runs[0]}")
    differ = []
    for opponents in FIELDS.values():
        contest = assemble([], opponents, opponents.rules)
        print(report.leaderboard_text(contest), end="\n\n")
        differ += report.differences(contest)
    print("\n".join(differ) or "All published scores come out, to four digits.")
    return SOME_FAILED if differ else DONE


def _project(options: Namespace) -> int:
    """Print what a full run would cost, from pocket trials of the method and of NAdamW."""
    rules = version(options.rules or V05.name)
    trials = [r for path in options.runs for r in _records(path)] or baselines.read()
    overhead = projection.overhead(trials, options.project)
    projected = projection.project(rules, rules.all_workloads, overhead)
    print(text_table(tables.projected(projected, rules.studies, options.price)))
    return DONE


if __name__ == "__main__":
    run(main)
