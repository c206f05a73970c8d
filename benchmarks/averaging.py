"""The cost of an average of the weights per step: `python -m benchmarks.averaging`.

The two problems are those of the step benchmark. All averages follow one model in one process
and are updated one after the other, in a different order each round. A ratio is an average's time
divided by that of a step of torch.optim.AdamW(fused=True) in the same round; the median over
rounds.

The counts do not depend on the machine. Per update: words (4 bytes) per parameter that
operations read and write, ATen calls, and the peak of additional bytes; per average: words per
parameter that it keeps. With offload, times, words and calls are those of the calling thread;
another thread moves 3 more words and uses the CPU for it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.optimizer_step import PROBLEMS, Shapes
from benchmarks.traffic import Traffic
from selftune.averaging import EMA, LAWA, BlockLAWA, Polyak, Profile, WeightAverage

HALF_LIFE = 693  # steps; a decay of 0.999
DECAY = 0.5 ** (1 / HALF_LIFE)
RUN = 100_000  # steps of a run; one average takes the weights after every 0.2 % of it
CYCLE = 10  # updates over which counts are averaged: LAWA(10) recomputes its sum in one of ten


@dataclass
class Contender:
    update: Callable[[], object]
    updates: int = 1  # how many of them are timed together
    swap: Callable[[], AbstractContextManager[object]] | None = None
    finish: Callable[[], object] = lambda: None  # waits for other threads; not timed


Build = Callable[[nn.Module], Contender]


def contenders() -> Iterator[tuple[str, torch.dtype, Build]]:
    """Names, the dtype of the weights that they follow, and functions that build them."""
    ema = ours(EMA(half_life=HALF_LIFE))
    yield "torch AdamW(fused), a step", torch.float32, adamw
    yield "selftune EMA", torch.float32, ema
    yield "selftune EMA, every 0.2 % of the run", torch.float32, rarely
    yield "selftune EMA, offloaded", torch.float32, ours(EMA(half_life=HALF_LIFE), offload=True)
    yield "selftune EMA of bfloat16", torch.bfloat16, ema
    yield "selftune Polyak", torch.float32, ours(Polyak())
    yield "selftune LAWA(10)", torch.float32, ours(LAWA(10, every=1))
    yield "selftune BlockLAWA(10)", torch.float32, ours(BlockLAWA(10, every=1))
    yield "torch AveragedModel", torch.float32, averaged_model
    peers = {"torch_ema": torch_ema, "ema_pytorch": ema_pytorch, "timm.utils": timm}
    for module, build in peers.items():
        try:
            importlib.import_module(module)
        except (ImportError, RuntimeError) as error:  # timm fails with another torch's torchvision
            print(f"{module} is left out: {error}")
        else:
            yield module.removesuffix(".utils").replace("_", "-"), torch.float32, build


def adamw(model: nn.Module) -> Contender:
    return Contender(torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True).step)


def ours(profile: Profile, **options: Any) -> Build:
    def build(model: nn.Module) -> Contender:
        average = WeightAverage(model, profile, **options)
        return Contender(
            average.update, swap=lambda: average.swap(model), finish=average.state_dict
        )

    return build


def rarely(model: nn.Module) -> Contender:
    profile = EMA(half_life=HALF_LIFE, every=0.002)
    average = WeightAverage(model, profile, total_steps=RUN)
    updates = RUN // 500

    def update() -> None:
        for _ in range(updates):
            average.update()

    return Contender(update, updates)


def averaged_model(model: nn.Module) -> Contender:
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    return Contender(lambda: average.update_parameters(model))


def torch_ema(model: nn.Module) -> Contender:
    module = importlib.import_module("torch_ema")
    average = module.ExponentialMovingAverage(model.parameters(), DECAY)
    return Contender(average.update, swap=average.average_parameters)


def ema_pytorch(model: nn.Module) -> Contender:
    module = importlib.import_module("ema_pytorch")
    average = module.EMA(model, beta=DECAY, update_every=1, update_after_step=0, use_foreach=True)
    return Contender(average.update)


def timm(model: nn.Module) -> Contender:
    average = importlib.import_module("timm.utils").ModelEmaV3(model, decay=DECAY)
    return Contender(lambda: average.update(model))


def swap_and_back(contender: Contender) -> None:
    assert contender.swap is not None
    with contender.swap():
        pass


@dataclass
class Counts:
    """The counts of one contender. Words are per parameter."""

    kept: float
    words: float
    calls: float
    extra: int  # peak of additional bytes
    swap_extra: int | None


@torch.no_grad()
def counted(build: Build, model: nn.Module) -> tuple[Contender, Counts]:
    """A contender with 2 CYCLE updates behind it, and its counts."""
    elements = sum(p.numel() for p in model.parameters())
    with Traffic(peak=False) as building:
        contender = build(model)
        for _ in range(CYCLE):
            contender.update()
        contender.finish()
    with Traffic() as updating:
        for _ in range(CYCLE):
            contender.update()
    contender.finish()
    swap_extra = None
    if contender.swap is not None:
        with Traffic() as swapping:
            swap_and_back(contender)
        swap_extra = swapping.most_held
    updates = CYCLE * contender.updates
    return contender, Counts(
        building.held / 4 / elements,
        updating.moved / 4 / elements / updates,
        updating.calls / updates,
        updating.most_held,
        swap_extra,
    )


def seconds(act: Callable[[], object], device: str) -> float:
    _synchronize(device)
    start = time.perf_counter()
    act()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)


def measure(title: str, shapes: Shapes, options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(shape, device=options.device) for shape in shapes]
    models = {
        t: nn.ParameterList(x.to(t) for x in tensors) for t in (torch.float32, torch.bfloat16)
    }
    for p in models[torch.float32]:
        p.grad = torch.randn_like(p)
    running: dict[str, Contender] = {}
    counts: dict[str, Counts] = {}
    for name, dtype, build in contenders():
        running[name], counts[name] = counted(build, models[dtype])
    times: dict[str, list[float]] = {name: [] for name in running}
    swaps: dict[str, list[float]] = {name: [] for name, c in running.items() if c.swap}
    with torch.no_grad():
        for _ in range(options.rounds):
            for name in random.sample(list(running), len(running)):
                contender = running[name]
                times[name].append(seconds(contender.update, options.device) / contender.updates)
                contender.finish()
                if contender.swap:
                    act = lambda c=contender: swap_and_back(c)  # noqa: E731
                    swaps[name].append(seconds(act, options.device))
    elements = sum(tensor.numel() for tensor in tensors)
    print(f"\n({title}) {len(shapes)} tensors, {elements:,} elements, {options.device}\n")
    columns = ["", "of a step", "ms", "words moved", "ATen calls", "extra MB", "words kept"]
    columns += ["swap and back, of a step", "its extra MB"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    step = times[next(iter(running))]
    for name, count in counts.items():
        cells = [f"{_ratio(times[name], step):.2g}", f"{1e3 * statistics.median(times[name]):.2g}"]
        cells += [f"{count.words:.3g}", f"{count.calls:.4g}", f"{count.extra / 1e6:.1f}"]
        cells += [f"{count.kept:.2f}"]
        if count.swap_extra is None:
            cells += ["", ""]
        else:
            cells += [f"{_ratio(swaps[name], step):.2g}", f"{count.swap_extra / 1e6:.1f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def _ratio(times: list[float], reference: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, reference, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problem", choices=[*PROBLEMS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random.seed(0)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    load = os.getloadavg()[0]
    for name in PROBLEMS if options.problem == "all" else [options.problem]:
        measure(name, PROBLEMS[name](), options)
    if load > 0.5:
        print(
            f"\nThe machine was busy (load {load:.1f} of {os.cpu_count()} cores at the start): "
            "the counts are exact, the times are not to be trusted."
        )


if __name__ == "__main__":
    main()
