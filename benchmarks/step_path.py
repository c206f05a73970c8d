"""The code that runs in one step: `python -m benchmarks.step_path`.

For every method, on the list path and compiled: the files of `selftune` that a step after the first
ones enters, the functions in them, and the number of calls from one file to another. The parameters
are one large and some small ones, dense, all with gradients, on the CPU. A comprehension counts as
part of the function that contains it.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch

import selftune
from selftune import optim

PACKAGE = str(Path(selftune.__file__).parent)
SHAPES = [(300, 300), (300,), (20, 7), ()]


class StepPath(NamedTuple):
    files: frozenset[str]
    functions: frozenset[CodeType]
    moves: int


def step_path(step: Callable[[], object]) -> StepPath:
    """The code of `selftune` that runs in a call."""
    entered: list[CodeType] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        ours = event == "call" and code.co_filename.startswith(PACKAGE)
        if ours and code.co_name not in ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"):
            entered.append(code)

    sys.setprofile(look)
    try:
        step()
    finally:
        sys.setprofile(None)
    files = [code.co_filename for code in entered]
    moves = sum(one != other for one, other in itertools.pairwise(files))
    return StepPath(frozenset(files), frozenset(entered), moves)


def of_method(cls: Callable[..., Any], compile: bool) -> StepPath:
    params = [torch.linspace(1, 2, torch.Size(s).numel()).view(s).requires_grad_() for s in SHAPES]
    optimizer = cls(params, compile=compile)

    def step() -> None:
        optimizer.step(loss=1.0)

    for p in params:
        p.grad = torch.ones_like(p)
    step()
    step()
    return step_path(step)


def methods() -> dict[str, Callable[..., Any]]:
    return {
        name: cls
        for name, cls in vars(optim).items()
        if inspect.isclass(cls) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
    }


def main() -> None:
    print("| method | files | functions | moves | compiled: files | functions | moves |")
    print("|---|---|---|---|---|---|---|")
    for name, cls in methods().items():
        cells = [name]
        for compile in (False, True):
            path = of_method(cls, compile)
            cells += [str(len(path.files)), str(len(path.functions)), str(path.moves)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
