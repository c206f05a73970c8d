"""Search for targets by AlgoPerf's protocol: `python -m eval.set_targets --workload all`.

A quasi-random search of the calibrated baseline's family, then the best configuration with new
seeds. Takes hours; the same command goes on where an earlier one ended.
"""

import sys
from dataclasses import replace

from .cli import DONE, INTERRUPTED, SOME_FAILED, Parser, cores, count, run
from .clock import check_device
from .plan import complete, say_what_was_cut
from .results import Results, read
from .targets import (
    PROTOCOL,
    Sizes,
    best_trial,
    log,
    refuse_other_workload,
    searched,
    sizes,
    target,
)
from .targets.calibration import calibrated
from .targets.search import search_trials, trials_with_new_seeds
from .targets.summary import summary
from .trial import Trial
from .user_workloads import chosen_workloads
from .workload import Workload
from .workloads import SUITES, WORKLOADS


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("eval.set_targets", "Set the workloads' targets by AlgoPerf's protocol.")
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
        "--trials", type=count, default=PROTOCOL.configurations, help="configurations"
    )
    parser.add_argument(
        "--seeds", type=count, default=PROTOCOL.seeds, help="runs of the best configuration"
    )
    parser.add_argument("--jobs", type=count, default=cores(), help="runs at a time")
    parser.add_argument("--device", default="cpu", help="where to train")
    parser.add_argument("--report", action="store_true", help="say what was found; run nothing")
    options = parser.parse_args(arguments)
    try:
        workloads = chosen_workloads(options.workload, WORKLOADS, SUITES[options.suite])
        check_device(options.device)
        if not options.report:
            for workload in workloads:
                search(workload, Sizes(options.trials, options.seeds), options.jobs, options.device)
        for workload in workloads:
            print(summary(workload))
        if all(
            len(searched(read(log(workload)))) >= PROTOCOL.configurations for workload in workloads
        ):
            best, rank = calibrated(workloads)
            print(f"best over all of these, of mean rank {rank:.1f}: {best}")
    except (ValueError, OSError) as error:
        parser.refuse(error)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return DONE if all(map(_has_target, workloads)) else SOME_FAILED


def search(workload: Workload, asked: Sizes, jobs: int, device: str) -> None:
    """Run what the workload's log lacks: the search, then its best with new seeds.

    A log that was begun for a longer search is not finished by a shorter one.
    """
    with Results(log(workload)) as results:
        say_what_was_cut(results)
        refuse_other_workload(workload, results.records)
        trials = search_trials(workload, asked, device)
        _refuse_other_search(results, trials)
        complete(trials, results, jobs)
        best, planned = best_trial(workload, results.records), sizes(results.records)
        if best is not None and len(searched(results.records)) >= planned.configurations:
            wanted = replace(planned, seeds=max(planned.seeds, asked.seeds))
            complete(trials_with_new_seeds(workload, best, wanted, device), results, jobs)


def _refuse_other_search(results: Results, trials: list[Trial]) -> None:
    now_by_study = {trial.study: trial.details["configuration"] for trial in trials}
    for record in searched(results.records):
        before = record.get("configuration")
        now = now_by_study.get(record["study"], before)
        if before is None or before != now:
            raise ValueError(
                f"{results.path} holds another search: its configuration {record['study']} is "
                f"{before}, not {now}; remove it to search again"
            )


def _has_target(workload: Workload) -> bool:
    try:
        target(workload)
    except ValueError as reason:
        print(reason, file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    run(main)
