"""Rebuilding of published.csv.gz: `python -m eval.algoperf.rebuild_published TIMES CURVES`.

TIMES has one row for each published run (algoperf_time_to_target.csv.gz), CURVES one for each
evaluation of the self-tuning runs (algoperf_curves_selftuning.csv.gz); both were read from the
logs in mlcommons/submissions_algorithms. The output has the submissions that have a score, and from
their learning curves the times at which targets relaxed by up to 5 % were reached.
"""

import csv
import gzip
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..cli import DONE, Parser, run
from .benchmark import VERSIONS, OfficialWorkload, relaxed
from .published import COLUMNS, FIELDS, PATH

FIELD_OF = {  # (ruleset, version) in the input
    ("self", "v0.5"): "published-v0.5",
    ("external", "v0.5"): "published-v0.5-external",
    ("external", "v0.6"): "published-v0.6-external",
    ("self", "v0.6-a100-2026"): "published-v0.6-a100",
}
LEVELS = [level / 200 for level in range(11)]  # relaxations whose times are kept: 0 to 5 %

Row = dict[str, str]
Run = tuple[str, str, str, str]  # version, submission, workload, study


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("eval.algoperf.rebuild_published", "Rebuild the table of published runs.")
    parser.add_argument("times", type=Path, help="one row a run")
    parser.add_argument("curves", type=Path, help="one row an evaluation")
    options = parser.parse_args(arguments)
    try:
        PATH.write_bytes(table(rows(options.times), rows(options.curves)))
    except (ValueError, OSError) as error:
        parser.refuse(error)
    return DONE


def table(times: Iterable[Row], curves: Iterable[Row]) -> bytes:
    """The compressed table."""
    by_run: dict[Run, list[Row]] = defaultdict(list)
    for row in curves:
        by_run[_run(row)].append(row)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in times:
        name = FIELD_OF.get((row["ruleset"], row["version"]))
        if name is None or row["workload"] not in VERSIONS[FIELDS[name].version].all_workloads:
            continue
        workload = VERSIONS[FIELDS[name].version].all_workloads[row["workload"]]
        curve = by_run[_run(row)] if row["ruleset"] == "self" else []
        writer.writerow(
            (
                *(name, row["submission"], row["framework"], row["workload"]),
                *(row["study"].removeprefix("study_"), row["trial"].removeprefix("trial_")),
                *(_finite(row["seconds_to_target"]), _digits(row["steps_to_target"], 0)),
                *(row["eval_index"], _digits(row["best_metric"], 7)),
                *(_digits(row["final_step"], 0), _digits(row["max_seconds_run"], 0)),
                _digits(row["sec_per_step"], 4),
                *(_digits(row["n_evals"], 0), _digits(row["eval_seconds"], 0)),
                " ".join(":".join(point) for point in _near(curve, workload)),
            )
        )
    return gzip.compress(text.getvalue().encode(), mtime=0)


def _near(curve: Iterable[Row], workload: OfficialWorkload) -> Iterator[tuple[str, str, str]]:
    """(step, seconds, metric) of the first evaluations within 5, 4.5, ..., 0 % of the target."""
    metric, levels = workload.metric, list(LEVELS)
    for row in curve:
        value = float(row["value"] or "nan")
        left = [x for x in levels if not metric.reached(value, relaxed(workload.target, metric, x))]
        if len(left) < len(levels):
            levels = left
            yield row["step"], row["seconds"], row["value"]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a compressed table."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _run(row: Row) -> Run:
    return row["version"], row["submission"], row["workload"], row["study"]


def _finite(text: str) -> str:
    """The number with all digits, so that equal times stay equal."""
    return "" if text in ("inf", "nan") else text


def _digits(text: str, decimals: int) -> str:
    """The number in `text` with at most that many decimals; empty if it is empty or infinite."""
    if text in ("", "inf", "-inf", "nan"):
        return ""
    number = f"{float(text):.{decimals}f}"
    return number.rstrip("0").rstrip(".") if decimals else number


if __name__ == "__main__":
    run(main)
