"""Update rules compiled by `torch.compile` into one pass over memory.

A compiled rule takes 1-D tensors of any length, so that one compilation serves all parameters, and
all numbers in one more tensor, so that a new learning rate does not compile anything again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling

from selftune.optim.engine.cohorts import Bucket, Group, State
from selftune.optim.engine.precision import Rule
from selftune.tensor_list import TensorList

Number = float | Tensor
Way = Callable[[Rule, Bucket, Tensor | None], list[Tensor]]
# The layout of the tensor of numbers: how many belong to each name; 0 for a single number.
Layout = tuple[tuple[str, int], ...]
Constants = tuple[tuple[str, Any], ...]

# Compiled rules kept in the cache; there is one for each combination of non-numeric options.
KEPT = 128


class NotCompiled(RuntimeError):
    """The compiler failed on a rule, or ran it without compiling it."""


class Call:
    """A compiled `how(rule, b, ok)`, to be called with each bucket of a cohort.

    how: runs the rule in place or undoably, see precision.py.
    options, numbers: the cohort's parameter group, and what `advance` returned for this step.
    ok: whether the gradients are finite, a 0-d tensor, where the step must be undoable.
    """

    def __init__(
        self, how: Way, rule: Rule, b: Bucket, options: Group, numbers: State, ok: Tensor | None
    ) -> None:
        device = b.param.tensors[0].device
        self.names = tuple(
            name for name, value in b.attributes.items() if isinstance(value, TensorList)
        )
        dtypes = tuple(getattr(b, name).tensors[0].dtype for name in self.names)
        which = how, rule, self.names, dtypes
        numbers = {n: float(v) if type(v) is int else v for n, v in numbers.items()}
        read = _options_read(*which, *_laid_out(options), *_laid_out(numbers))
        options = {name: value for name, value in options.items() if name in read}
        self.after = [_in_one_tensor([options, numbers], device), *([] if ok is None else [ok])]
        layouts = *_laid_out(options), *_laid_out(numbers)
        self.key: Any = device, ok is not None, *which, *layouts
        self.compiled: Callable[..., list[Tensor]] | None = None

    def __call__(self, b: Bucket) -> list[Tensor]:
        """Run the rule and return its sums. Raises `NotCompiled`, with the bucket unchanged."""
        tensors = [getattr(b, name).tensors[0] for name in self.names]
        try:
            if self.compiled is None:
                compiler: Any = cast(Any, torch).compile  # torch's annotation is incomplete
                self.compiled = _compiled(compiler, *self.key)
            return self.compiled(*tensors, *self.after)
        except (torch.OutOfMemoryError, MemoryError):
            raise  # not the compiler's fault: the list path needs no less memory
        except Exception as error:  # each version of the compiler raises other types
            _compiled.cache_clear()  # so that the next attempt compiles again
            raise NotCompiled(_first_line(error)) from error


@functools.lru_cache(maxsize=KEPT)
def _compiled(
    compile: Callable[..., Any],
    device: torch.device,
    undoable: bool,
    how: Way,
    rule: Rule,
    names: tuple[str, ...],
    dtypes: tuple[torch.dtype, ...],
    of_group: Layout,
    group_constants: Constants,
    of_step: Layout,
    constants: Constants,
) -> Callable[..., list[Tensor]]:
    def function(*inputs: Tensor) -> list[Tensor]:
        if not is_compiling():
            raise NotCompiled("TORCH_COMPILE_DISABLE is set, or a stance that compiles nothing")
        *tensors, flat, ok = inputs if undoable else (*inputs, None)
        lists = {name: TensorList([tensor]) for name, tensor in zip(names, tensors, strict=True)}
        values = iter(flat.unbind())
        group, numbers = (
            {name: tuple(next(values) for _ in range(n)) if n else next(values) for name, n in row}
            for row in (of_group, of_step)
        )
        group.update(group_constants)
        return how(rule, Bucket(group=group, **lists, **numbers, **dict(constants)), ok)

    # torch.compile keeps at most 8 compilations of a code object, so each rule gets its own.
    name = f"compiled_{rule.__qualname__.replace('.', '_')}"
    function.__code__ = function.__code__.replace(co_name=name)
    return compile(function, dynamic=True, fullgraph=True, options=_compiler_options())


def _compiler_options() -> dict[str, Any]:
    options: dict[str, Any] = {
        # Otherwise the compiler omits the rounding to bfloat16 for which run() compensates.
        "emulate_precision_casts": True,
        # Otherwise each number of threads compiles again.
        "cpp.dynamic_threads": True,
    }
    if hasattr(torch.compiler, "keep_tensor_guards_unsafe"):  # this torch has guard filters
        options["guard_filter_fn"] = _guards_that_matter
    return options


def _guards_that_matter(guards: Sequence[Any]) -> list[bool]:
    """Keep all guards except the one on torch's global settings, such as the number of threads.

    Steps run without gradients, and no operation of a rule depends on another global setting.
    """
    return [guard.guard_type != "GLOBAL_STATE" for guard in guards]


class _Recording(dict[str, Any]):
    """A parameter group that records which options are read from it."""

    def __init__(self, options: Group) -> None:
        super().__init__(options)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


@functools.lru_cache(maxsize=KEPT)
@torch.no_grad()
def _options_read(
    how: Way,
    rule: Rule,
    names: tuple[str, ...],
    dtypes: tuple[torch.dtype, ...],
    of_group: Layout,
    group_constants: Constants,
    of_step: Layout,
    constants: Constants,
) -> frozenset[str]:
    """The options that a rule reads from its group, found by running it on one element."""
    ones = [TensorList([torch.ones(1, dtype=dtype)]) for dtype in dtypes]
    lists = dict(zip(names, ones, strict=True))
    one = torch.ones((), dtype=torch.float64)
    group, numbers = (
        {name: (one,) * n if n else one for name, n in row} for row in (of_group, of_step)
    )
    recording = _Recording({**group, **dict(group_constants)})
    how(rule, Bucket(group=recording, **lists, **numbers, **dict(constants)), None)
    return frozenset(recording.read)


def _laid_out(row: dict[str, Any]) -> tuple[Layout, Constants]:
    """Split a row into the layout of its numbers, also those in sequences, and other values."""
    numbers = {name: value for name, value in row.items() if _varies(value)}
    layout = tuple((name, _members(value)) for name, value in numbers.items())
    return layout, tuple((n, v) for n, v in row.items() if n not in numbers)


def _members(value: Any) -> int:
    return len(value) if isinstance(value, tuple | list) else 0  # pyright: ignore


def _in_one_tensor(rows: list[dict[str, Any]], device: torch.device) -> Tensor:
    """The rows' numbers, in their order, as one tensor on the device."""
    # float64 so that 1 - beta keeps its digits.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    values: list[Any] = []
    for value in (value for row in rows for value in row.values() if _varies(value)):
        values.extend(value if _members(value) else [value])
    # The host's numbers go to the device in one transfer; tensors there are not read back.
    known = [0.0 if isinstance(v, Tensor) and v.device == device else float(v) for v in values]
    flat = torch.tensor(known, dtype=dtype, device=device)
    for i, value in enumerate(values):
        if isinstance(value, Tensor) and value.device == device:
            flat[i] = value
    return flat


def _varies(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return value not in ((), [])
    return isinstance(value, float | np.floating | Tensor)


def _first_line(error: BaseException) -> str:
    first, *others = str(error).strip().splitlines() or ["no message"]
    # torch 2.6 names the backend in the first line and the cause in the next.
    cause = next(
        (f" {line.strip()}" for line in others if first.endswith(":") and line.strip()), ""
    )
    return f"{type(error).__name__}: {first}{cause}"
