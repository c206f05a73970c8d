"""The command that trains, evaluates and scores: `python -m eval.self_tuning --workload all`.

The same command goes on where an earlier one was interrupted. With --ablate it crosses methods
with other schedules and averages instead, and compares them study by study.
"""

import shlex
import sys
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from . import ablation, baselines, cli
from .cli import DONE, INTERRUPTED, SOME_FAILED, Parser, cores, count, multiple, natural
from .clock import check_device
from .data import check
from .estimate import minutes
from .first_try import refuse_unusable
from .methods import METHODS
from .plan import complete, edited, opened, refuse_other_rules, unfinished
from .reporting.report import report
from .results import key, read
from .step_times import in_use
from .targets import PROTOCOL, log, sizes, target
from .trial import Trial
from .user_methods import chosen_methods
from .user_workloads import chosen_workloads
from .workload import Workload
from .workloads import SUITES, WORKLOADS

ABLATION_DEFAULTS = {"budget": 1.0, "out": Path("runs/ablation")}


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if _scale(arguments) == "full":
        from .algoperf import full

        return full.main(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.ablate is not None:
        parser.set_defaults(**ABLATION_DEFAULTS)
        options = parser.parse_args(arguments)
    try:
        if options.list:
            print(_listing())
            return DONE
        axes = None if options.ablate is None else ablation.Axes.of(options.ablate)
        trials = _trials(options)
        trials = trials if axes is None else ablation.expanded(trials, axes)
        path = options.out / "results.jsonl"
        if options.dry_run:
            print(_expectation(trials, path, options))
            return DONE
        in_use(options.out)  # damaged step times are refused before the run, not after
        results = opened(path, trials)
        try:
            refuse_unusable(unfinished(trials, results.records, options.retry_failed))
        except BaseException:
            results.close()
            raise
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError) as error:
        parser.refuse(error)
    with results:
        try:
            run = complete if axes is None else ablation.run
            run(trials, results, options.jobs, options.retry_failed)
        except (KeyboardInterrupt, OSError) as reason:
            left = len(unfinished(trials, results.records))
            print(
                f"{str(reason) or 'interrupted'}: {len(trials) - left} of {len(trials)} trials are "
                f"kept in {path}; the same command goes on from there",
                file=sys.stderr,
            )
            return INTERRUPTED if isinstance(reason, KeyboardInterrupt) else SOME_FAILED
        command = shlex.join(["python", "-m", "eval.self_tuning", *arguments])
        if axes is None:
            own = {t.workload.name: t.workload for t in trials if t.workload.place is not None}
            report(results.records, options.out, command, list(own.values()))
        else:
            ablation.report(results.records, axes, options.out)
    planned = {trial.key for trial in trials}
    outcomes = [record["outcome"] for record in results.records if key(record) in planned]
    return SOME_FAILED if "failed" in outcomes or len(outcomes) < len(planned) else DONE


def _scale(arguments: Sequence[str]) -> str:
    """The scale, pocket or full, which decides about the other options."""
    first = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--scale", default="pocket")
    try:
        return first.parse_known_args(arguments)[0].scale
    except ArgumentError:
        return "pocket"  # whose parser says what is wrong


def _parser() -> Parser:
    parser = Parser("eval.self_tuning", "Train, evaluate and score methods on workloads.")
    parser.add_argument(
        "--scale",
        choices=("pocket", "full"),
        default="pocket",
        help="full: AlgoPerf itself, on eight GPUs; it has options of its own",
    )
    parser.add_argument(
        "--suite", choices=tuple(SUITES), default="pocket", help="the workloads that all means"
    )
    parser.add_argument(
        "--workload",
        default="all",
        help="a,b or all of the suite; your own as path/to/file.py:WORKLOAD, see "
        "docs/own_workload.md",
    )
    parser.add_argument(
        "--method",
        default="self_tune",
        help="a,b or all; your own as path/to/file.py:function or package.module:function",
    )
    parser.add_argument("--studies", type=count, default=3, help="repetitions with other seeds")
    parser.add_argument(
        "--budget",
        type=multiple,
        default=3.0,
        help="steps a trial may take, in multiples of step_hint; AlgoPerf v0.5 has 3, v0.6 1.5",
    )
    parser.add_argument(
        "--ablate",
        metavar="AXES",
        help="cross the methods with schedules and averages, as in 'schedule=cosine,wsd,refined; "
        "averaging=none,ema'; --budget is then 1 and --out runs/ablation unless given",
    )
    parser.add_argument("--jobs", type=count, default=cores(), help="trials at a time")
    parser.add_argument("--seed", type=natural, default=0, help="where all seeds come from")
    parser.add_argument("--out", type=Path, default=Path("runs/self_tuning"), help="a folder")
    parser.add_argument("--device", default="cpu", help="where to train")
    parser.add_argument(
        "--retry-failed", action="store_true", help="run the trials that failed again"
    )
    parser.add_argument("--list", action="store_true", help="show workloads and methods")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and its minutes")
    return parser


def _trials(options: Namespace) -> list[Trial]:
    """The trials to run, study by study. Raises ValueError or OSError for invalid options."""
    workloads = chosen_workloads(options.workload, WORKLOADS, SUITES[options.suite])
    methods = chosen_methods(options.method, METHODS)
    for dataset in {dataset for workload in workloads for dataset in workload.datasets}:
        check(dataset)
    check_device(options.device)
    targets = {workload.name: target(workload) for workload in workloads}
    smaller = {workload.name: _smaller_search(workload) for workload in workloads}
    return [
        Trial(
            workload=workload,
            method=method.name,
            configuration=method.summary,
            build=method.build,
            study=study,
            seed=options.seed,
            budget=options.budget,
            target=targets[workload.name],
            device=options.device,
            details=smaller[workload.name],
        )
        for study in range(options.studies)
        for workload in workloads
        for method in methods
    ]


def _smaller_search(workload: Workload) -> dict[str, Any]:
    """The size of the search, for the record of a trial if it is smaller than the protocol's."""
    made_from = sizes(read(log(workload)))
    return {} if made_from == PROTOCOL else {"target_from": str(made_from)}


def _listing() -> str:
    lines = ["workloads:"]
    for workload in WORKLOADS.values():
        metric, way = workload.metric.name, "<>"[workload.metric.higher_is_better]
        kin = f" (AlgoPerf's {workload.algoperf})" if workload.algoperf else ""
        made_from = sizes(read(log(workload)))
        kin += f" (target from {made_from})" if made_from != PROTOCOL else ""
        lines.append(
            f"  {workload.name:24} {metric} {way}= {_target(workload)} in {workload.step_hint} "
            f"steps{kin}"
        )
    lines.append("methods:")
    for method in METHODS.values():
        lines.append(f"  {method.name:24} {method.summary}")
        lines.append(f"  {'':24} weight decay: {method.weight_decay}")
    return "\n".join(lines)


def _target(workload: Workload) -> str:
    try:
        return f"{target(workload):.5g}"
    except ValueError:
        return "(not set yet)"


def _expectation(trials: list[Trial], path: Path, options: Namespace) -> str:
    """The plan and how long it takes. Raises ValueError if `path` was made under other rules."""
    records, recorded = read(path), baselines.read()
    over = edited(trials, records)
    records = [record for record in records if record["method"] not in over]
    refuse_other_rules(trials, records, path)
    left = unfinished(trials, records, options.retry_failed)
    at_once = min(options.jobs, cores()) if options.device == "cpu" else options.jobs
    lines = [
        f"{len(trials)} trials of at most {options.budget:g} x step_hint, {options.studies} "
        f"studies from seed {options.seed}:"
    ]
    for trial in trials[: len(trials) // options.studies]:
        lines.append(
            f"  {trial.workload.name:24} {trial.method:24} up to {trial.steps} steps, "
            f"{minutes([trial], recorded, jobs=1):.1f} minutes"
        )
    lines += [
        f"{method} was edited: its {len(old)} trials are dropped" for method, old in over.items()
    ]
    source = "the recorded baselines" if recorded else "step_hint, as nothing is recorded yet"
    lines.append(
        f"{len(trials) - len(left)} are done in {path}; the rest takes about "
        f"{ceil(minutes(left, recorded, at_once))} minutes, {options.jobs} at a time "
        f"(from {source})"
    )
    if at_once < options.jobs:
        lines.append(
            f"this machine grants {at_once} cores: more than {at_once} trials at a time only "
            "take memory"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
