"""The recorded baselines, for README and the docs: `python -m eval.baselines --out docs`.

Prints the table of scores in Markdown; with --out writes two figures, the performance profile and
the learning curves.
"""

from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

from ..methods import METHODS
from ..pool import Pool, assemble
from ..reporting import plots, tables
from ..reporting.svg import standalone, styles
from ..reporting.text import markdown_table
from ..workloads import POCKET
from . import RESULTS, read


def main() -> None:
    parser = ArgumentParser(prog="python -m eval.baselines", description=__doc__)
    parser.add_argument("--out", type=Path, help="a folder for the figures")
    parser.add_argument("--results", type=Path, default=RESULTS, help="other recorded trials")
    options = parser.parse_args()
    pool = assemble(read(options.results), [], [workload.name for workload in POCKET])
    print(table(pool))
    if options.out is None:
        return
    look = styles(pool.entrants, list(METHODS))
    figures = {
        "profile.svg": plots.performance_profile(pool.steps, look),
        "curves.svg": plots.learning_curves(pool, look),
    }
    for name, svg in figures.items():
        (options.out / name).write_text(standalone(svg), encoding="utf-8", newline="\n")


def table(pool: Pool) -> str:
    """Scores and steps to the target, a row a method, a column a workload."""
    return markdown_table(replace(tables.steps_table(pool), own=frozenset()))


if __name__ == "__main__":
    main()
