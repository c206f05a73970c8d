"""The agreement of pocket results with AlgoPerf's published ones: `python -m eval.trust`.

Rank correlations over the methods that have both, for each published field and for each workload.
Only ranks are compared, because the scores come from pools with different members.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from math import inf, isfinite
from pathlib import Path
from statistics import median

from . import baselines, oracle, strictness
from .algoperf.published import FIELDS, Field, records
from .cli import DONE, Parser, chosen, count, run
from .correlation import FEWEST, Correlation
from .files import write_text
from .pool import Pool, assemble
from .reporting.tables import Cell, Table
from .reporting.text import markdown_table
from .results import Record
from .results import read as read_records
from .scoring import time_to_target
from .step_times import BUNDLED, StepTimes, standings
from .targets.besides import Besides
from .workload import Workload
from .workloads import POCKET

PUBLISHED_METHODS = baselines.RESULTS.with_name("published_methods.jsonl")
# field -> submission -> our methods at its settings, the nearest first; the first recorded counts
COUNTERPARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "published-v0.6-a100": {
        "schedule_free_adamw_v2": ["schedule_free_v2"],
        "ademamix": ["ademamix"],
        "schedule_free_adamw": ["schedule_free_v1", "schedule_free_adamw"],
        "nadamw_baselinev05": ["nadamw_v05", "nadamw"],
        "muon_torch_replicated_torch_hps": ["muon_torch"],
        "nadamw": ["nadamw_2026"],
        "cautious_nadamw": ["cautious_nadamw"],
        "muon": ["muon_jax"],
        "lion": ["lion"],
        "nadamw_resnet": ["nadamw_resnet"],
        "single_worker_diloco": ["diloco"],
    },
    "published-v0.5": {
        "schedule_free_adamw": ["schedule_free_v1", "schedule_free_adamw"],
        "baseline": ["nadamw_v05", "nadamw"],
        "adamg": ["adamg"],
    },
    # Here a submission has five settings, and our method one of them.
    "published-v0.5-external": {
        "shampoo_submission": ["shampoo"],
        "generalized_adam": ["generalized_adam"],
        "cyclic_lr": ["cyclic_lr"],
        "nadamp": ["nadamp"],
        "amos": ["amos"],
        "caspr_adaptive": ["caspr"],
        "schedule_free_prodigy": ["schedule_free_prodigy_v05"],
    },
}

METHODS = {m for field in COUNTERPARTS.values() for methods in field.values() for m in methods}

Numbers = Mapping[str, float]  # by method


def recorded_pool(trials: Sequence[Record], names: Sequence[str], studies: int) -> Pool:
    """The published methods recorded on all workloads of these names, in the first studies.

    The pool has no other methods, which would change the scores. Raises ValueError if there is
    none.
    """
    whole = set(product(names, range(studies)))
    here = [
        trial
        for trial in trials
        if (trial["workload"], trial["study"]) in whole and trial["method"] in METHODS
    ]
    complete = [
        method
        for method in dict.fromkeys(trial["method"] for trial in here)
        if {(t["workload"], t["study"]) for t in here if t["method"] == method} == whole
    ]
    if not complete:
        raise ValueError(
            f"no published method is recorded on all of {', '.join(names)} in as many studies as "
            f"{studies}; choose fewer"
        )
    return assemble([trial for trial in here if trial["method"] in complete], [], names)


def counterparts(field: Field, pool: Pool) -> dict[str, str]:
    """By submission of a field, the method of the pool with its settings."""
    here = {entrant.name for entrant in pool.entrants}
    found = {
        submission: next((method for method in methods if method in here), None)
        for submission, methods in COUNTERPARTS.get(field.name, {}).items()
    }
    return {submission: method for submission, method in found.items() if method}


def measures(pool: Pool, besides: Besides, times: StepTimes | None) -> Mapping[str, Numbers]:
    """By measure and method, the values at pocket scale; higher is better in all of them."""
    easier = {
        name: low
        for name, (low, _) in strictness.scores(pool, besides.easier, besides.settled).items()
    }
    found = {
        "score": {name: standing.score for name, standing in pool.steps.items()},
        "score at easier targets": easier,
        "oracle ratio": {n: -oracle.ratio(pool, n, besides.steps) for n in pool.steps},
    }
    if times is not None:
        seconds = standings(pool, times)
        found["score by seconds"] = {name: its.score for name, its in seconds.items()}
    return found


def agreement_table(pool: Pool, found: Mapping[str, Numbers]) -> Table:
    """A table with a row for each field and measure."""
    rows = []
    for field in FIELDS.values():
        here = counterparts(field, pool)
        for name, numbers in found.items():
            paired = [(numbers[m], field.scores[s]) for s, m in here.items() if m in numbers]
            correlation = Correlation.of(*zip(*paired, strict=True)) if paired else None
            if here:
                cells = _cells(correlation, len(paired))
                rows.append((Cell(field.name), Cell(name), *cells))
    return Table(
        "Pocket results and published scores",
        ("field", "pocket", "pairs", "Spearman", "95 % interval", "Kendall", "95 % interval"),
        tuple(rows),
        "1: the same order; 0: none; -1: the reverse. Intervals: bootstrap over the pairs. "
        "Published scores are by seconds.",
        text_columns=2,
    )


def workloads_table(trials: Sequence[Record], workloads: Sequence[Workload], studies: int) -> Table:
    """A table with a row for each workload and field, over the methods recorded on it."""
    rows = []
    for field in FIELDS.values():
        published = records(field)
        for workload in workloads:
            pool = recorded_pool(trials, [workload.name], studies)
            here = counterparts(field, pool)
            if len(here) < FEWEST:
                continue
            theirs = [_published_steps(published, s, str(workload.algoperf)) for s in here]
            cells = [Cell(workload.name), Cell(field.name)]
            cells += [Cell(str(len(here))), Cell(_reached(theirs))]
            own, easier = pool.rules[workload.name]["target"], Besides.of([workload], pool.rules)
            for target in (own, easier.easier[workload.name]):
                ours = [_steps(pool, method, workload.name, target) for method in here.values()]
                _, rho, interval, *_ = _cells(Correlation.of(ours, theirs), len(ours))
                cells += [Cell(_reached(ours)), rho, interval]
            rows.append(tuple(cells))
    return Table(
        "Steps to the target, workload by workload",
        (
            *("workload", "field", "pairs", "hits there"),
            *("hits here", "Spearman", "95 % interval"),
            *("hits, easier target", "Spearman", "95 % interval"),
        ),
        tuple(rows),
        "Over the methods recorded on the workload; a miss ranks behind every hit and ties with "
        "other misses. -: all values of one side are equal."
        + ("" if rows else f" No workload has {FEWEST} pairs."),
        text_columns=2,
    )


def methods_table(pool: Pool, found: Mapping[str, Numbers]) -> Table:
    """A table of the submissions and the methods that stand for them."""
    rows = [
        (
            Cell(field.name),
            Cell(submission),
            Cell(method),
            Cell(f"{field.scores[submission]:.4f}"),
            *(Cell(_shown(name, its.get(method))) for name, its in found.items()),
        )
        for field in FIELDS.values()
        for submission, method in counterparts(field, pool).items()
    ]
    return Table(
        "Who is compared",
        ("field", "submission", "method here", "published score", *found),
        tuple(rows),
        text_columns=3,
    )


def _reached(times: Sequence[float]) -> str:
    return str(sum(map(isfinite, times)))


def _published_steps(published: Sequence[Record], submission: str, workload: str) -> float:
    times = [
        time_to_target(record, "steps")
        for record in published
        if (record["method"], record["workload"]) == (submission, workload)
    ]
    return median(times) if times else inf


def _steps(pool: Pool, method: str, workload: str, target: float) -> float:
    (entrant,) = (entrant for entrant in pool.entrants if entrant.name == method)
    return median(strictness.steps_to(trial, target)[0] for trial in entrant.trials[workload])


def _cells(correlation: Correlation | None, pairs: int) -> list[Cell]:
    if correlation is None:
        return [Cell(str(pairs)), *[Cell("-")] * 4]
    texts = []
    for value, (low, high) in (
        (correlation.spearman, correlation.spearman_interval),
        (correlation.kendall, correlation.kendall_interval),
    ):
        texts += [f"{value:+.2f}", f"{low:+.2f} to {high:+.2f}"]
    return [Cell(str(correlation.pairs)), *map(Cell, texts)]


def _shown(measure: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{-value:.2f}" if measure == "oracle ratio" else f"{value:.3f}"


def tables(
    trials: Sequence[Record], workloads: Sequence[Workload], studies: int, times: StepTimes | None
) -> list[Table]:
    """All tables that are printed. workloads: the workloads over which methods are scored."""
    pool = recorded_pool(trials, [workload.name for workload in workloads], studies)
    found = measures(pool, Besides.of(workloads, pool.rules), times)
    made = [agreement_table(pool, found), workloads_table(trials, POCKET, studies)]
    return [*made, methods_table(pool, found)]


def figure(trials: Sequence[Record], workloads: Sequence[Workload], studies: int) -> str:
    """The pocket scores over the published ones, as SVG. Imports matplotlib."""
    from .reporting.svg import standalone
    from .reporting.trust_plot import trust_plot

    pool = recorded_pool(trials, [workload.name for workload in workloads], studies)
    found = measures(pool, Besides.of(workloads, pool.rules), None)
    own, easier = found["score"], found["score at easier targets"]
    points = {
        field.name: [(m, field.scores[s], own[m], easier[m]) for s, m in here.items()]
        for field in FIELDS.values()
        if (here := counterparts(field, pool))
    }
    return standalone(trust_plot(points))


def recorded() -> list[Record]:
    """The trials of seed 0: those of the baselines, and of the published methods."""
    return [*baselines.read(), *read_records(PUBLISHED_METHODS)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("eval.trust", "Correlate pocket results with published ones.")
    parser.add_argument(
        "--workload",
        default="all",
        help="a,b or all: the workloads to score on; methods must have all of them",
    )
    parser.add_argument(
        "--studies",
        type=count,
        default=1,
        help="how many; methods count that are recorded in all of them",
    )
    parser.add_argument("--results", type=Path, help="more recorded trials, of seed 0")
    parser.add_argument("--out", type=Path, help="a folder for trust.svg")
    options = parser.parse_args(arguments)
    try:
        more = [] if options.results is None else read_records(options.results)
        times = StepTimes.read(BUNDLED) if BUNDLED.exists() else None
        known = {workload.name: workload for workload in POCKET}
        workloads = chosen(options.workload, known, "workload")
        trials = [*recorded(), *more]
        for table in tables(trials, workloads, options.studies, times):
            print(f"## {table.title}\n\n{markdown_table(table)}\n\n{table.caption}\n")
        if options.out is not None:
            write_text(options.out / "trust.svg", figure(trials, workloads, options.studies))
    except (ValueError, OSError) as error:
        parser.refuse(error)
    return DONE


if __name__ == "__main__":
    run(main)
