"""Timing of a step of every method on every workload: `python -m eval.calibrate --method all`.

The file that it writes gives reports seconds that do not depend on when a trial ran: with --out of
a run, the same command of `eval.self_tuning` reads it and reports again.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from .cli import DONE, INTERRUPTED, Parser, count, run
from .clock import Clock, check_device
from .data import check
from .files import write_text
from .fingerprint import fingerprint
from .methods import METHODS, Method
from .step_times import NAME, StepTimes
from .training import Run, Seeds, moved
from .user_methods import chosen_methods
from .user_workloads import chosen_workloads
from .workload import Workload
from .workloads import SUITES, WORKLOADS

UNTIMED = 2  # first steps that are not timed, because they create the state
ROUNDS = 9


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("eval.calibrate", "Measure ms a step, all methods in turn.")
    parser.add_argument(
        "--suite", choices=tuple(SUITES), default="pocket", help="the workloads that all means"
    )
    parser.add_argument("--workload", default="all", help="as of eval.self_tuning")
    parser.add_argument("--method", default="all", help="as of eval.self_tuning")
    parser.add_argument("--rounds", type=count, default=ROUNDS, help="timed steps of each")
    parser.add_argument("--device", default="cpu", help="where to train")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/self_tuning"), help="the folder of a run"
    )
    options = parser.parse_args(arguments)
    try:
        workloads = chosen_workloads(options.workload, WORKLOADS, SUITES[options.suite])
        methods = chosen_methods(options.method, METHODS)
        for dataset in {dataset for workload in workloads for dataset in workload.datasets}:
            check(dataset)
        check_device(options.device)
        torch.set_num_threads(1)  # as in a trial
        ms = {}
        for workload in workloads:
            measured = calibrated(workload, methods, options.rounds, options.device)
            print(_line(workload, measured), flush=True)
            ms[workload.name] = {
                fingerprint(workload): {m.name: {m.summary: measured[m.name]} for m in methods}
            }
        made_with = f"torch {torch.__version__}, {options.rounds} rounds"
        path = options.out / NAME
        write_text(path, StepTimes(options.device, made_with, ms).text())
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError) as error:
        parser.refuse(error)
    print(f"written: {path}")
    return DONE


def calibrated(
    workload: Workload, methods: Sequence[Method], rounds: int, device: str
) -> dict[str, float]:
    """The median milliseconds of a training step, by method.

    A step is that of a trial: batch, loss, gradients, optimizer, schedule. The methods take one
    step each in turn, starting with another method in each round, so that whatever slows down the
    machine slows down all of them. What a method does only once in a hundred steps does not show in
    a median.
    """
    training = moved(workload.load().train, device)
    seeds = Seeds.of(workload.name, study=0, seed=0)
    runs = {m.name: Run(workload, m.build, training, seeds, device) for m in methods}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for one in runs.values():
        one.model.train()
        for batch in islice(one.batches, UNTIMED):
            one.step(batch)
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            clock = Clock(device)
            clock.start()
            runs[name].step(next(runs[name].batches))
            clock.stop()
            seconds[name].append(clock.seconds)
    return {name: 1000 * median(its) for name, its in seconds.items()}


def _line(workload: Workload, ms: dict[str, float]) -> str:
    ordered = sorted(ms.items(), key=lambda item: item[1])
    return f"{workload.name}: " + ", ".join(f"{name} {its:.2f} ms" for name, its in ordered)


if __name__ == "__main__":
    run(main)
