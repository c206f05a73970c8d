"""Table and figures of the recorded baselines for README and docs: `python -m eval.baselines`.

Prints the table of scores in Markdown; with --out writes two figures, the performance profile and
the learning curves.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..cli import DONE, Parser, run
from ..methods import METHODS
from ..pool import Pool, assemble
from ..reporting import plots, tables
from ..reporting.svg import standalone, styles
from ..reporting.text import markdown_table
from ..workloads import SUITES
from . import RESULTS, read


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("eval.baselines", "The recorded baselines' scores, as a table in Markdown.")
    parser.add_argument("--out", type=Path, help="a folder for the figures")
    parser.add_argument(
        "--results", type=Path, nargs="+", default=[RESULTS], help="files of other recorded trials"
    )
    parser.add_argument(
        "--suite", choices=("pocket", "wide"), default="pocket", help="what they were trained on"
    )
    options = parser.parse_args(arguments)
    try:
        for path in options.results:
            if not path.exists():
                raise ValueError(f"there is no {path}")
        records = [record for path in options.results for record in read(path)]
        pool = assemble(records, [], [w.name for w in SUITES[options.suite]])
        print(table(pool))
        if options.out is not None:
            _draw(pool, options.out)
    except (ValueError, OSError) as error:
        parser.refuse(error)
    return DONE


def _draw(pool: Pool, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    look = styles(pool.entrants, list(METHODS))
    figures = {
        "profile.svg": plots.performance_profile(pool.steps, look),
        "curves.svg": plots.learning_curves(pool, look),
    }
    for name, svg in figures.items():
        (folder / name).write_text(standalone(svg), encoding="utf-8", newline="\n")


def table(pool: Pool) -> str:
    """Scores and steps to the target: a row for each method, a column for each workload."""
    return markdown_table(replace(tables.steps_table(pool), own=frozenset()))


if __name__ == "__main__":
    run(main)
