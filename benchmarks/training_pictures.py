"""Draws the pictures of training runs in README and docs, in a minute of CPU time.

    python -m benchmarks.training_pictures [FOLDER]

Trains on small workloads of the benchmark and draws into FOLDER, by default docs/images:
curves.svg, AdamW, schedulefree's AdamW and SelfTune with their defaults on three tasks;
averaged.svg, SelfTune at its average and at its last iterate; d.svg, the distances that three
methods learn. Needs the extras `eval` and `peers`. One seed; nothing is tuned.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import schedulefree
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import nn

from eval.workload import Workload
from eval.workloads import WORKLOADS
from selftune import DAdaptAdam, Monitor, Prodigy, ScheduleFreeProdigy, SelfTune
from selftune.averaging import recalibrate_batch_norm
from selftune.averaging.module_tensors import buffers_restored
from selftune.schedules import ScheduleLR, linear

TASKS = {"mlp_batchnorm": 160, "molecule_gnn": 80, "sentence_pairs": 80}  # steps
EVALUATIONS = 8
SEED = 0


@dataclass(frozen=True)
class Made:
    """An optimizer, its schedule, and a context in which the model has its evaluation weights."""

    optimizer: Any
    scheduler: Any = None
    evaluation_weights: Callable[[], AbstractContextManager[Any]] = nullcontext


Make = Callable[[nn.Module, int], Made]


def adamw(model: nn.Module, steps: int) -> Made:
    optimizer = torch.optim.AdamW(model.parameters())
    return Made(optimizer, ScheduleLR(optimizer, linear(steps)))


def peer(model: nn.Module, steps: int) -> Made:
    optimizer = schedulefree.AdamWScheduleFree(model.parameters())
    optimizer.train()

    @contextmanager
    def evaluation_weights() -> Iterator[None]:
        optimizer.eval()
        yield
        optimizer.train()

    return Made(optimizer, evaluation_weights=evaluation_weights)


def self_tune(model: nn.Module, steps: int) -> Made:
    optimizer = SelfTune(model.parameters())
    return Made(optimizer, evaluation_weights=optimizer.evaluation_weights)


CURVES: dict[str, Make] = {
    "AdamW, lr .001, linear decay": adamw,
    "schedulefree AdamW, lr .0025": peer,
    "SelfTune": self_tune,
}
DISTANCES: dict[str, Callable[[Any], Any]] = {
    "Prodigy": Prodigy,
    "DAdaptAdam": DAdaptAdam,
    "ScheduleFreeProdigy": ScheduleFreeProdigy,
}


@dataclass(frozen=True)
class Curve:
    steps: list[int]
    evaluated: list[float]  # the validation metric at the evaluation weights
    raw: list[float]  # for SelfTune only, the validation metric at the last iterate


def run(workload: Workload, make: Make, steps: int) -> Curve:
    splits = workload.load()
    torch.manual_seed(SEED)
    model = workload.build_model()
    made = make(model, steps)
    generators = [torch.Generator().manual_seed(SEED + i) for i in range(2)]
    batches, others = (
        workload.training_batches(splits.train, workload.batch_size, g) for g in generators
    )

    @torch.no_grad()
    def metric() -> float:
        with buffers_restored(model):
            forward = workload.loss  # BatchNorm statistics must be those of the weights
            recalibrate_batch_norm(model, list(islice(others, 4)), forward=forward)
            model.eval()
            value = workload.evaluate(model, splits.validation)
        model.train()
        return value

    curve = Curve([], [], [])
    for step in range(1, steps + 1):
        made.optimizer.zero_grad()
        workload.loss(model, next(batches)).backward()
        made.optimizer.step()
        if made.scheduler is not None:
            made.scheduler.step()
        if step % (steps // EVALUATIONS) == 0:
            curve.steps.append(step)
            with made.evaluation_weights():
                curve.evaluated.append(metric())
            if make is self_tune:
                curve.raw.append(metric())
    return curve


def curves(steps: dict[str, int]) -> tuple[Figure, Figure]:
    """All methods on all tasks; and SelfTune at its average and at its last iterate."""
    whole, averaged = (Figure(figsize=(9.5, 2.9), layout="constrained") for _ in range(2))
    axes, others = (
        figure.subplots(1, len(steps), squeeze=False)[0] for figure in (whole, averaged)
    )
    for ax, other, (name, number) in zip(axes, others, steps.items(), strict=True):
        workload = WORKLOADS[name]
        for label, make in CURVES.items():
            curve = run(workload, make, number)
            print(f"{name}: {label}: {curve.evaluated[-1]:.4g} at step {number}")
            ax.plot(curve.steps, curve.evaluated, label=label)
            if label == "SelfTune":
                other.plot(curve.steps, curve.raw, color="0.6", label="last iterate")
                other.plot(curve.steps, curve.evaluated, color="C2", label="average")
        for each in (ax, other):
            better = "higher" if workload.metric.higher_is_better else "lower"
            each.set_title(f"{name}: {workload.metric.name}\n({better} is better)", fontsize=8)
            each.set(xlabel="step")
    for first in (axes[0], others[0]):
        first.legend(frameon=False, fontsize=7)
    return whole, averaged


def distances(name: str, steps: int) -> Figure:
    workload = WORKLOADS[name]
    figure = Figure(figsize=(5, 2.9), layout="constrained")
    ax = figure.subplots()
    for label, cls in DISTANCES.items():
        torch.manual_seed(SEED)
        model = workload.build_model()
        optimizer = cls(model.parameters())
        monitor = Monitor(optimizer, every=1)
        batches = workload.training_batches(
            workload.load().train, workload.batch_size, torch.Generator().manual_seed(SEED)
        )
        for batch in islice(batches, steps):
            optimizer.zero_grad()
            workload.loss(model, batch).backward()
            optimizer.step()
        rows = monitor.rows
        ax.plot([row["step"] for row in rows], [row["d"] for row in rows], label=label)
    ax.set(xlabel="step", ylabel="d", yscale="log")
    ax.set_title(f"the learnt distance on {name}", fontsize=9)
    ax.legend(frameon=False, fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    # Equal pictures are equal files.
    with rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    whole, averaged = curves(TASKS)
    save(whole, folder / "curves.svg")
    save(averaged, folder / "averaged.svg")
    save(distances("mlp_batchnorm", 150), folder / "d.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images"))
