"""Refinement, bound and transfer against public logs of a language model.

    python -m benchmarks.llm_gradient_norms [FILE]

The table holds runs of a 124 M Llama with AdamW, weight decay 0.1, 50,000 steps and 300 of
warm-up, logged every 50 steps: those of Schaipp et al., The Surprising Agreement Between Convex
Optimization Theory and Learning-Rate Scheduling, 2025 (https://arxiv.org/abs/2501.18965), whose
repository fabian-sp/lr-scheduling publishes them under the MIT licence. By default it is
llm_gradient_norms.csv.gz in the folder $SELFTUNE_SHARED/data, or ../shared/data.
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from selftune.refinement.refine import Refined
from selftune.schedules import Schedule, constant, cosine, linear, refine, transfer_lr, wsd

STEPS, WARMUP, WEIGHT_DECAY = 50_000, 300, 0.1
LINEAR = "wsd-linear-0.994"  # a cooldown over all steps after the warm-up
WHOLE = ("constant", "cosine", LINEAR)
AGREED, ORDERED, TRANSFERRED = 0.05, 0.9, 1.95  # the bars


@dataclass(frozen=True)
class Run:
    """One training run: its log from the first step on, and its final loss."""

    schedule: str
    peak_lr: float
    steps: np.ndarray
    lrs: np.ndarray
    norms: np.ndarray  # l2 norms of the whole gradient
    final_loss: float  # validation

    def refine(self, decouple: str) -> Refined:
        return refine(
            self.norms,
            kind="adam",
            decouple=decouple,
            steps=self.steps,
            lrs=self.lrs,
            weight_decay=WEIGHT_DECAY,
        )


def default_file() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("SELFTUNE_SHARED", beside)) / "data" / "llm_gradient_norms.csv.gz"


def load(path: Path) -> dict[tuple[str, float], Run]:
    """The runs by schedule and peak lr.

    Runs with a cooldown are logged from its start on; before that, they equal the constant run.
    """
    records: dict[tuple[str, float], dict[int, tuple[float, float]]] = defaultdict(dict)
    losses = {}
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            key = row["schedule"], float(row["peak_lr"])
            records[key][int(row["step"])] = float(row["lr"]), float(row["grad_norm_l2"])
            losses[key] = float(row["final_val_loss"])
    runs = {}
    for (schedule, peak_lr), own in records.items():
        before = records[("constant", peak_lr)] if schedule not in WHOLE else {}
        first = min(own)
        all_of_it = {step: record for step, record in before.items() if step < first} | own
        steps = np.array(sorted(all_of_it))
        lrs, norms = np.array([all_of_it[step] for step in steps]).T
        runs[schedule, peak_lr] = Run(
            schedule, peak_lr, steps, lrs, norms, losses[schedule, peak_lr]
        )
    return runs


def schedule_of(name: str) -> Schedule:
    """The schedule of a run, by its name in the table."""
    if name in ("constant", "cosine"):
        return {"constant": constant, "cosine": cosine}[name](STEPS).with_warmup(WARMUP)
    _, shape, share = name.split("-")
    cooldown = round(float(share) * STEPS)
    return wsd(STEPS, cooldown, {"sqrt": "1-sqrt"}.get(shape, shape)).with_warmup(WARMUP)


def disagreements(refined: Sequence[Schedule]) -> list[float]:
    """Mean absolute differences of multipliers, pair by pair."""
    factors = [schedule.resample(1000).factors() for schedule in refined]
    return [float(np.abs(one - other).mean()) for one, other in combinations(factors, 2)]


def best_losses(runs: dict[tuple[str, float], Run], lrs: set[float]) -> dict[str, float]:
    """The final loss at the best peak lr of all schedules that were run at all these lrs."""
    names = [name for name, _ in runs if all((name, lr) in runs for lr in lrs)]
    return {name: min(runs[name, lr].final_loss for lr in lrs) for name in dict.fromkeys(names)}


def rank_correlation(losses: dict[str, float], norms: np.ndarray | float) -> float:
    bounds = [schedule_of(name).bound(norms).value for name in losses]
    return round(float(spearmanr(bounds, list(losses.values()))[0]), 6)  # pyright: ignore[reportArgumentType]


def main(path: Path) -> int:
    runs = load(path)
    lrs = sorted({lr for _, lr in runs})
    verdicts = []
    print("Refined schedules from the constant, cosine and linear runs of one lr, pair by pair")
    print("peak lr   plain              lr^1/2             decoupled          model holds")
    for lr in lrs:
        if not all((name, lr) in runs for name in WHOLE):
            continue
        own = [runs[name, lr] for name in WHOLE]
        decoupled = [run.refine("auto") for run in own]
        pointwise = [refine(run.norms * run.lrs**0.5, kind="adam") for run in own]
        columns = [disagreements([run.refine("none") for run in own]), disagreements(pointwise)]
        columns.append(disagreements(decoupled))
        holds = [refined.diagnostics.model_holds for refined in decoupled]
        text = ["  ".join(f"{value:.3f}" for value in column) for column in columns]
        print(f"{lr:<8g}  {'  '.join(text)}  {' '.join('yes' if h else 'NO' for h in holds)}")
        if lr <= 1e-3:
            verdicts += [max(columns[-1]) <= AGREED, all(holds)]
        elif lr >= 3e-3:
            verdicts.append(not any(holds))
    print(f"bar: at most {AGREED} decoupled up to lr 1e-3; at 3e-3 the model does not hold\n")

    common = {lr for lr in lrs if sum((name, lr) in runs for name, _ in runs) >= len(WHOLE)}
    losses = best_losses(runs, common)
    norms = runs["constant", min(lrs, key=lambda lr: abs(lr - 1e-3))].norms
    print("Best final losses, and the bound over that of linear decay")
    for name in sorted(losses, key=lambda name: losses[name]):
        ratio = schedule_of(name).bound().value / schedule_of(LINEAR).bound().value
        print(f"{name:<18} {losses[name]:.4f}  {ratio:.3f}")
    rank, measured = rank_correlation(losses, 1.0), rank_correlation(losses, norms)
    print(f"Spearman {rank:.2f} with constant norms, {measured:.2f} with those of the constant run")
    print(f"bar: at least {ORDERED}\n")

    factor, longer = (transfer_lr(1.0, wsd(t, 0.2), linear(t)) for t in (2000, STEPS))
    print(
        f"Peak lr of linear decay over that of WSD 20 %: {factor:.3f} in 2,000 steps, "
        f"{longer:.3f} in {STEPS:,}; bar: {TRANSFERRED}"
    )
    verdicts += [rank >= ORDERED, abs(factor - TRANSFERRED) < 0.005]
    print("all bars are met" if all(verdicts) else "A BAR IS MISSED")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else default_file()))
