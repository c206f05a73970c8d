"""The cost of one optimizer step: `python -m benchmarks.optimizer_step`.

Two problems: (a) the 100 tensors of a 30 M-parameter transformer, (b) 1,200 tensors of 64 to
4,096 elements. All optimizers of a block take one step in each round, in one process; to save
memory, a block has only some of them, and the two references. A ratio is an optimizer's time
divided by that of torch.optim.AdamW, fused or foreach, in the same round, the median over rounds.
The counts do not depend on the machine: ATen calls and reads back to the host of one step; words
moved per element, as `benchmarks/traffic.py` counts them; bytes of state per parameter; and on a
CPU the peak of additional bytes during the step.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch._inductor.utils import fresh_cache
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from benchmarks.traffic import words_moved
from selftune import optim

Make = Callable[[list[Tensor]], torch.optim.Optimizer]
Shapes = list[tuple[int, ...]]

PEERS = {  # the name in the table: module, class
    "schedulefree SGD": ("schedulefree", "SGDScheduleFree"),
    "schedulefree AdamW": ("schedulefree", "AdamWScheduleFree"),
    "schedulefree RAdam": ("schedulefree", "RAdamScheduleFree"),
    "prodigyopt Prodigy": ("prodigyopt", "Prodigy"),
    "dadaptation DAdaptSGD": ("dadaptation", "DAdaptSGD"),
    "dadaptation DAdaptAdam": ("dadaptation", "DAdaptAdam"),
    "dadaptation DAdaptAdaGrad": ("dadaptation", "DAdaptAdaGrad"),
    "dog DoG": ("dog", "DoG"),
    "dog LDoG": ("dog", "LDoG"),
    "prodigyplus SF-Prodigy": ("prodigyplus", "ProdigyPlusScheduleFree"),
    "pytorch_optimizer SF-AdamW": ("pytorch_optimizer", "ScheduleFreeAdamW"),
    "pytorch_optimizer Prodigy": ("pytorch_optimizer", "Prodigy"),
}
REFERENCES: dict[str, Make] = {
    "torch AdamW(fused)": lambda params: torch.optim.AdamW(params, fused=True),
    "torch AdamW(foreach)": lambda params: torch.optim.AdamW(params, foreach=True),
}
AT_ONCE = 8  # optimizers in a block besides the references; each has 2 to 6 words per element


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
    """All optimizers of selftune, on the list path and compiled, and the installed peers."""
    for name, cls in vars(optim).items():
        if inspect.isclass(cls) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer:
            yield name, cls
            yield f"{name}(compile)", lambda params, cls=cls: cls(params, compile=True)
    around = REFERENCES["torch AdamW(fused)"]
    yield "ScheduleFree(torch AdamW)", lambda params: optim.ScheduleFree(around(params))
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


class Turn:
    """An optimizer with its parameters, the counts of its steps, and their seconds."""

    def __init__(self, make: Make, shapes: Shapes, device: str) -> None:
        params = parameters(shapes, device)
        self.device = device
        self.optimizer = make(params)
        self.seconds: list[float] = []
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()  # pyright: ignore
        first = self.timed()
        self.step()
        calls, reads, peak = profiled(self.step)
        elements = sum(p.numel() for p in params)
        on_cpu = device == "cpu"
        self.cells = [
            str(calls),
            str(reads),
            f"{words_moved(self.step) / elements:.1f}" if on_cpu else "-",
            f"{state_bytes(self.optimizer) / elements:.1f}",
            f"{peak / 1e6:.1f}" if on_cpu else "-",
            f"{first:.1f}",
        ]

    def step(self) -> None:
        if getattr(self.optimizer, "takes_loss", False):
            self.optimizer.step(loss=1.0)  # pyright: ignore
        else:
            self.optimizer.step()

    def timed(self) -> float:
        return seconds_of(self.step, self.device)


def seconds_of(step: Callable[[], object], device: str) -> float:
    """Seconds of one step, including the device's work."""
    _synchronize(device)
    start = time.perf_counter()
    step()
    _synchronize(device)
    return time.perf_counter() - start


def profiled(step: Callable[[], object]) -> tuple[int, int, int]:
    """Of one step: ATen calls, reads back to the host, and, on a CPU, the most bytes held at once
    beyond those held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
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


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of state without single numbers; memory shared by several states counts once.

    Includes tensors in groups, which some peers have, and the state of a wrapped optimizer.
    """
    groups = [{**group, "params": None} for group in optimizer.param_groups]
    base = getattr(optimizer, "base", optimizer)
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for value in tree_leaves([groups, *optimizer.state.values(), *base.state.values()])
        if isinstance(value, Tensor) and value.numel() > 1
    }
    return sum(storages.values())


def run_block(makes: dict[str, Make], shapes: Shapes, options: argparse.Namespace) -> list[str]:
    """The rows of a table; the references come first."""
    turns = {
        label: Turn(make, shapes, options.device) for label, make in {**REFERENCES, **makes}.items()
    }
    gc.disable()
    for _ in range(options.rounds):
        for turn in turns.values():
            turn.seconds.append(turn.timed())
    gc.enable()
    references = [turns[label].seconds for label in REFERENCES]
    rows = []
    for label, turn in turns.items():
        ratios = [
            statistics.median(own / its for own, its in zip(turn.seconds, reference, strict=True))
            for reference in references
        ]
        ms = statistics.median(turn.seconds) * 1e3
        numbers = [*(f"{ratio:.2f}" for ratio in ratios), f"{ms:.1f}", *turn.cells]
        rows.append(f"| {label} | " + " | ".join(numbers) + " |")
    return rows


def measure(name: str, options: argparse.Namespace) -> None:
    shapes = PROBLEMS[name]()
    elements = sum(torch.Size(shape).numel() for shape in shapes)
    print(
        f"\n({name}) {len(shapes)} tensors, {elements:,} elements, {options.threads} threads, "
        f"{options.rounds} rounds, torch {torch.__version__}, {options.device}\n"
    )
    with fresh_cache():  # nothing is compiled yet, but the compiler itself has started
        torch.compiler.reset()
        start = time.perf_counter()
        torch.compile(torch.sin)(torch.ones(1, device=options.device))
        print(f"The start of the compiler, {time.perf_counter() - start:.1f} s, is in no row.\n")
        _print_table(shapes, options)


def _print_table(shapes: Shapes, options: argparse.Namespace) -> None:
    columns = ["optimizer", "to fused", "to foreach", "ms", "ATen calls", "host reads"]
    columns += ["words moved", "state bytes", "peak extra MB", "first step s"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    chosen = [item for item in optimizers() if options.only.lower() in item[0].lower()]
    for start in range(0, len(chosen), AT_ONCE):
        rows = run_block(dict(chosen[start : start + AT_ONCE]), shapes, options)
        # The references' own rows come from the first block.
        print("\n".join(rows if start == 0 else rows[len(REFERENCES) :]), flush=True)
        gc.collect()


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


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)


if __name__ == "__main__":
    main()
