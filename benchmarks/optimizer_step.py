"""What one optimizer step costs: `python benchmarks/optimizer_step.py`.

Two problems: (a) the 100 tensors of a 30 M-parameter transformer, (b) 1,200 tensors of 64 to
4,096 elements. All optimizers take a step in turn, round after round, in one process; a ratio is
the median over the rounds of an optimizer's time divided by that of torch.optim.AdamW(fused=True)
in the same round. The counts do not depend on the machine: ATen calls and reads back to the host
of one step, words of state per parameter, and on a CPU the most bytes held at once beyond those
held before the step.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from selftune import optim

Make = Callable[[list[Tensor]], torch.optim.Optimizer]
Shapes = list[tuple[int, ...]]

OURS = (
    "AdamW",
    "NAdamW",
    "ScheduleFreeSGD",
    "ScheduleFreeAdamW",
    "Prodigy",
    "DAdaptSGD",
    "DAdaptAdam",
    "ScheduleFreeProdigy",
    "ScheduleFreePlus",
    "DAdaptAdaGrad",
)
PEERS = {  # the name in the table: module, class
    "schedulefree AdamW": ("schedulefree", "AdamWScheduleFree"),
    "prodigyopt Prodigy": ("prodigyopt", "Prodigy"),
    "dadaptation DAdaptAdam": ("dadaptation", "DAdaptAdam"),
    "prodigyplus SF-Prodigy": ("prodigyplus", "ProdigyPlusScheduleFree"),
    "pytorch_optimizer SF-AdamW": ("pytorch_optimizer", "ScheduleFreeAdamW"),
    "pytorch_optimizer Prodigy": ("pytorch_optimizer", "Prodigy"),
}
REFERENCE = "torch AdamW(fused)"


def transformer() -> Shapes:
    """100 tensors, 30 M elements: 8 layers of width 512, 9,000 units, 512 positions."""
    d = 512
    attention = [(3 * d, d), (3 * d,), (d, d), (d,), (d,), (d,)]
    feed_forward = [(4 * d, d), (4 * d,), (d, 4 * d), (d,), (d,), (d,)]
    return [(9000, d), (512, d), *(attention + feed_forward) * 8, (d,), (d,)]


def small() -> Shapes:
    """1,200 tensors of 64 to 4,096 elements."""
    sizes = torch.randint(64, 4097, (1200,), generator=torch.Generator().manual_seed(0))
    return [(size,) for size in sizes.tolist()]


PROBLEMS = {"a": transformer, "b": small}


def optimizers() -> Iterator[tuple[str, Make]]:
    yield REFERENCE, lambda params: torch.optim.AdamW(params, fused=True)
    yield "torch AdamW(foreach)", lambda params: torch.optim.AdamW(params, foreach=True)
    for name in OURS:
        if cls := getattr(optim, name, None):
            yield name, cls
            yield f"{name}(compile)", lambda params, cls=cls: cls(params, compile=True)
    for name, (module, cls_name) in PEERS.items():
        try:
            yield name, getattr(importlib.import_module(module), cls_name)
        except ImportError:
            print(f"{name}: not installed, left out")


def parameters(shapes: Shapes, device: str) -> list[Tensor]:
    """Random parameters with random gradients, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    params = []
    for shape in shapes:
        p = torch.randn(shape, generator=generator).to(device).requires_grad_()
        p.grad = torch.randn(shape, generator=generator).to(device)
        params.append(p)
    return params


def profiled(optimizer: torch.optim.Optimizer) -> tuple[int, int, int]:
    """Of one step: ATen calls, reads back to the host, and, on a CPU, the most bytes held at once
    beyond those held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        optimizer.step(**_loss(optimizer))
    events = [event for event in profiler.events() or [] if event.name.startswith("aten::")]
    calls = sum(
        event.cpu_parent is None or not event.cpu_parent.name.startswith("aten::")
        for event in events
    )
    reads = sum(event.name == "aten::_local_scalar_dense" for event in events)
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():  # pyright: ignore
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return calls, reads, peak


def state_words(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> float:
    """4-byte words of state per parameter; memory shared by several states counts once."""
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor) and value.numel() > 1
    }
    return sum(storages.values()) / 4 / sum(p.numel() for p in params)


def seconds(optimizer: torch.optim.Optimizer, device: str) -> float:
    """Of one step, the device's work included."""
    _synchronize(device)
    start = time.perf_counter()
    optimizer.step(**_loss(optimizer))
    _synchronize(device)
    return time.perf_counter() - start


def measure(name: str, options: argparse.Namespace) -> None:
    shapes = PROBLEMS[name]()
    running: dict[str, torch.optim.Optimizer] = {}
    cells: dict[str, list[str]] = {}
    for label, make in optimizers():
        if label != REFERENCE and options.only.lower() not in label.lower():
            continue
        params = parameters(shapes, options.device)
        running[label] = optimizer = make(params)
        if hasattr(optimizer, "train"):
            optimizer.train()  # pyright: ignore
        first = seconds(optimizer, options.device)
        optimizer.step(**_loss(optimizer))
        calls, reads, peak = profiled(optimizer)
        words = state_words(optimizer, params)
        megabytes = f"{peak / 1e6:.1f}" if options.device == "cpu" else "-"
        cells[label] = [str(calls), str(reads), f"{words:.2f}", megabytes, f"{first:.1f}"]
    times: dict[str, list[float]] = {label: [] for label in running}
    gc.disable()
    for _ in range(options.rounds):
        for label, optimizer in running.items():
            times[label].append(seconds(optimizer, options.device))
    gc.enable()
    elements = sum(torch.Size(shape).numel() for shape in shapes)
    print(
        f"\n({name}) {len(shapes)} tensors, {elements:,} elements, {options.threads} threads, "
        f"{options.rounds} rounds, torch {torch.__version__}, {options.device}\n"
    )
    columns = ["optimizer", "ratio", "ms", "ATen calls", "host reads", "state words"]
    columns += ["peak extra MB", "first step s"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for label in running:
        ratio = statistics.median(
            mine / reference for mine, reference in zip(times[label], times[REFERENCE], strict=True)
        )
        ms = statistics.median(times[label]) * 1e3
        print(f"| {label} | {ratio:.2f} | {ms:.1f} | " + " | ".join(cells[label]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description="What one optimizer step costs.")
    parser.add_argument("--problem", choices=[*PROBLEMS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="measure those whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in PROBLEMS if options.problem == "all" else [options.problem]:
        measure(name, options)


def _loss(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """What a step has to be given."""
    return {"loss": 1.0} if getattr(optimizer, "takes_loss", False) else {}


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)


if __name__ == "__main__":
    main()
