"""The main command, on the tests' workload and methods: `python drive.py ARGUMENTS`."""

import signal
import sys
from pathlib import Path

import builds
from late_flights import LATE_FLIGHTS

import eval.methods
import eval.targets.protocol
import eval.workloads
from eval.methods import Method
from eval.results import Results
from eval.trial import record

METHODS = {
    build.__name__: Method(build.__name__, f"{build.__name__} of the tests", "none", build)
    for build in (builds.sgd, builds.adam, builds.by_hand, builds.raising, builds.endless)
}
WORKLOADS = {"late_flights": LATE_FLIGHTS}
SUITES = {"pocket": (LATE_FLIGHTS,), "wide": (), "all": (LATE_FLIGHTS,)}


def write_log(folder: Path, target: float) -> None:
    """A search of the tests' workload whose outcome is `target`."""
    # It imports scipy.stats, which every child process would wait for.
    from eval.targets.search import search_trials, trials_with_new_seeds

    outcome = {"best_validation": target, "final_validation": target}
    search = search_trials(LATE_FLIGHTS)
    records = [record(trial, [], "done") | outcome for trial in search]
    again = trials_with_new_seeds(LATE_FLIGHTS, records[0])
    with Results(folder / "late_flights.jsonl") as log:
        for one in records + [record(trial, [], "done") | outcome for trial in again]:
            log.append(one)


if __name__ == "__main__":
    # Where the tests run in the background, interrupts are ignored, and so by their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log_folder, *arguments = sys.argv[1:]
    eval.workloads.WORKLOADS, eval.workloads.SUITES = WORKLOADS, SUITES
    eval.methods.METHODS = METHODS
    eval.targets.protocol.FOLDER = Path(log_folder)

    from eval import self_tuning

    self_tuning.report = lambda records, out, *_: print(len(records), "records reported")
    sys.exit(self_tuning.main(arguments))
