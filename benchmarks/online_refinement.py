"""Refinement within the run itself, against linear decay, on the pocket workloads.

    python -m benchmarks.online_refinement [--workload all] [--studies 2] [--out runs/online]

Both use nadamw_pocket's optimizer and peak learning rate, and warm up for a tenth of step_hint.
Gains are paired study by study. In units of the standard deviation over the seeds of the target's
runs, they are comparable between workloads. The same command resumes an interrupted one.
docs/log.md has the result: no gain, so that the scheduler stays out of the library.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import median_filter
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eval.cli import chosen, count
from eval.methods import METHODS, Build, Built
from eval.methods.nadamw import nadamw_pocket
from eval.observers import Observers, from_json
from eval.plan import complete, opened
from eval.results import Record, read
from eval.targets.protocol import log, seeds_of_best
from eval.trial import Trial
from eval.workload import Workload
from eval.workloads import WORKLOADS
from selftune.ablation.paired_difference import Difference
from selftune.refinement.refine import LARGEST_WEIGHT
from selftune.schedules import GradientNorms, ScheduleLR
from selftune.schedules import linear as linear_decay

WARMUP = 0.1  # of the run, nadamw_pocket's
SMOOTHING = 0.1  # of the run: length of the running median, as of `refine`
REFRESHES = 100  # number of times in a run that the norms are read
LARGEST_MULTIPLIER = 3.0


class OnlineRefinement(LRScheduler):
    """Linear decay after a linear warm-up, refined by the norms so far.

    `refine` has the weights w = 1 / (|g|_1 |x|) of a whole earlier run of Adam. Here all remaining
    steps are assumed to have the current weight w. With W the sum of the weights so far and R of T
    steps after the warm-up remaining, the multiplier is (w / m)^2 R / T, where m = (W + w R) / T is
    the mean weight. Constant norms give exactly linear decay, rising ones a faster decay.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup_steps: int) -> None:
        self._recorder = GradientNorms(optimizer)
        self._linear = linear_decay(total_steps).with_warmup(warmup_steps)
        self._total_steps, self._warmup_steps = total_steps, warmup_steps
        self._past = 1.0  # mean weight of the steps after the warm-up, divided by the current one
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        step = min(self.last_epoch, self._total_steps)
        passed = max(0, step - self._warmup_steps)
        if passed and step % max(1, self._total_steps // REFRESHES) == 0:
            self._past = self._mean_past_weight()
        rest = self._total_steps - max(step, self._warmup_steps)
        mean = (passed * self._past + rest) / (passed + rest)
        multiplier = min(self._linear(step) / mean**2, LARGEST_MULTIPLIER)
        return [base * multiplier for base in self.base_lrs]

    def _mean_past_weight(self) -> float:
        norms = self._recorder.log.norms
        logs = np.log(norms["l1"] * norms["weight"])
        # For each step, the median over it and the steps before it within a tenth of the run.
        length = 2 * int(SMOOTHING * self._total_steps / 2) + 1
        padded = np.concatenate([np.full(length - 1, logs[0]), logs])
        smoothed = median_filter(padded, size=length)[length // 2 :][: len(logs)]
        weights = np.minimum(np.exp(smoothed[-1] - smoothed), LARGEST_WEIGHT)
        return float(weights[self._warmup_steps :].mean())


def linear(model: nn.Module, num_steps: int) -> Built:
    optimizer = nadamw_pocket(model, num_steps)[0]
    _back_to_peak(optimizer)
    schedule = linear_decay(num_steps).with_warmup(round(WARMUP * num_steps))
    return optimizer, ScheduleLR(optimizer, schedule), None


def online(model: nn.Module, num_steps: int) -> Built:
    optimizer = nadamw_pocket(model, num_steps)[0]
    _back_to_peak(optimizer)
    scheduler = OnlineRefinement(optimizer, num_steps, round(WARMUP * num_steps))
    return optimizer, scheduler, None


BUILDS: dict[str, Build] = {"linear": linear, "online": online}


def trials(workloads: list[Workload], studies: int) -> list[Trial]:
    return [
        Trial(
            workload=workload,
            method=name,
            configuration=f"{METHODS['nadamw_pocket'].summary}, but schedule {name}",
            build=build,
            study=study,
            seed=0,
            budget=1.0,
            target=None,
            device="cpu",
            observers=Observers(record_norms=True),
        )
        for study in range(studies)
        for workload in workloads
        for name, build in BUILDS.items()
    ]


def table(workloads: list[Workload], studies: int, records: list[Record]) -> str:
    by_key = {(r["workload"], r["method"], r["study"]): r for r in records}
    lines = [f"{'':24} {'linear':>8} {'online':>8}  {'gain':22} in sd of seeds  mean, peak lr"]
    whole = []
    for workload in workloads:
        pairs = [
            (one, other)
            for study in range(studies)
            if (one := by_key.get((workload.name, "linear", study)))
            and (other := by_key.get((workload.name, "online", study)))
        ]
        finals = np.array([[r["final_validation"] for r in pair] for pair in pairs], dtype=float)
        if not len(finals):
            continue
        sign = 1 if workload.metric.higher_is_better else -1
        gain = Difference.of(*(sign * finals[:, ::-1].T))
        in_sds = gain.mean / _sd_of_seeds(workload)
        whole.append(in_sds)
        lrs = np.array([[_mean_and_peak_lr(record) for record in pair] for pair in pairs])
        shares = (lrs[:, 1] / lrs[:, 0]).mean(axis=0)
        means = "{:8.5g} {:8.5g}".format(*finals.mean(axis=0))
        times = "x {:.2f}, x {:.2f}".format(*shares)
        lines.append(f"{workload.name:24} {means}  {gain!s:22} {in_sds:+14.2f}  {times}")
    if whole:
        over = Difference.of(whole, [0.0] * len(whole))
        lines.append(f"over {len(whole)} workloads: {over} sd of seeds")
    return "\n".join(lines)


def _back_to_peak(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]


def _mean_and_peak_lr(record: Record) -> tuple[float, float]:
    lrs = from_json(record["norms"]).lrs
    assert lrs is not None
    return lrs.mean(), lrs.max()


def _sd_of_seeds(workload: Workload) -> float:
    runs = seeds_of_best(workload, read(log(workload)))
    return float(np.std([run["final_validation"] for run in runs], ddof=1))


def main(workload: str, studies: int, out: Path) -> None:
    workloads = chosen(workload, WORKLOADS, "workload")
    planned = trials(workloads, studies)
    with opened(out / "results.jsonl", planned) as results:
        complete(planned, results, jobs=1)
        print(table(workloads, studies, results.records))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.online_refinement")
    parser.add_argument("--workload", default="all", help="a,b or all")
    parser.add_argument("--studies", type=count, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/online"))
    options = parser.parse_args()
    main(options.workload, options.studies, options.out)
