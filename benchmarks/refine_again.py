"""Refined schedules refined again: how much they change, with decoupled and plain refinement.

    python -m benchmarks.refine_again --workload translation_transformer [--method nadamw]
        [--budget 1] [--rounds 3]

A run with linear decay records its norms; a run with its refined schedule records norms again; and
so on, all with the same warm-up. The result of plain refinement depends on the schedule of the
recording run, so that it may change from round to round.
"""

import argparse
from dataclasses import replace

import numpy as np

from eval.ablation.axes import with_warmup
from eval.ablation.plan import WithSchedule
from eval.methods import METHODS
from eval.observers import Observers, from_json
from eval.results import Record
from eval.trial import Trial, run_trial
from eval.workloads import WORKLOADS
from selftune.refinement.refine import Refined
from selftune.schedules import Schedule, refine

MODES = ("auto", "none")


def recorded(trial: Trial, schedule: Schedule) -> Record:
    record = run_trial(replace(trial, build=WithSchedule(trial.build, schedule, None)))
    if record["outcome"] != "done":
        raise RuntimeError(f"the run failed: {record['reason']}")
    return record


def distance(one: Schedule, other: Schedule) -> float:
    """The mean absolute difference of the multipliers."""
    return float(np.abs(one.factors() - other.factors()).mean())


def main(workload: str, method: str, budget: float, rounds: int) -> None:
    trial = Trial(
        workload=WORKLOADS[workload],
        method=method,
        configuration=METHODS[method].summary,
        build=METHODS[method].build,
        study=0,
        seed=0,
        budget=budget,
        target=None,
        device="cpu",
        observers=Observers(record_norms=True),
    )
    steps, metric = trial.steps, trial.workload.metric.name
    decay = with_warmup("linear", steps)
    first = recorded(trial, decay)
    print(f"{workload}, {method}, {steps} steps; {metric} {first['final_validation']:.4g} linear")
    print(f"round  {'decouple':12} moved   from linear  model holds  {metric} of the recording")
    for mode in MODES:
        record, before = first, None
        for number in range(1, rounds + 1):
            norms = from_json(record["norms"])
            refined: Refined = refine(norms, steps, decouple=mode, warmup=decay.warmup_steps)
            moved = "" if before is None else f"{distance(refined, before):.3f}"
            d = refined.diagnostics
            holds = {None: "-", True: "yes", False: "NO"}[d.model_holds]
            away = distance(refined, decay)
            print(
                f"{number:<6} {d.decouple:12} {moved:7} {away:<12.3f} {holds:12} "
                f"{record['final_validation']:.4g}",
                flush=True,
            )
            if number < rounds:
                record, before = recorded(trial, refined), refined


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refine_again")
    parser.add_argument("--workload", choices=list(WORKLOADS), default="translation_transformer")
    parser.add_argument("--method", choices=list(METHODS), default="nadamw")
    parser.add_argument("--budget", type=float, default=1.0, help="in multiples of step_hint")
    parser.add_argument("--rounds", type=int, default=3, help="refinements in each mode")
    options = parser.parse_args()
    main(options.workload, options.method, options.budget, options.rounds)
