"""Rules as compiled kernels: one pass over memory, whatever a rule's number of operations.

A kernel takes 1-D tensors of any length, so one compilation serves all parameters. All numbers
enter in one tensor: a new learning rate compiles nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Bucket, Cohort, Group, State
from selftune.optim.engine.kernel import Kernel
from selftune.optim.engine.packing import pieces
from selftune.optim.engine.precision import Rule
from selftune.tensor_list import TensorList

Number = float | Tensor
Way = Callable[[Rule, Bucket, Tensor | None], list[Tensor]]
# Numbers by name, as they lie in one tensor: how many belong to a name, 0 for one that is alone.
Layout = tuple[tuple[str, int], ...]


def joined(cohort: Cohort) -> list[Bucket]:
    """The cohort in buckets of one tensor of each kind: those of its pieces.

    What `run_compiled` gives for one has to be written back before the next is asked for.
    """
    if cohort.pieces is None:
        cohort.pieces = pieces(cohort)
    return [Bucket(group=cohort.group, source=piece, **piece.lists()) for piece in cohort.pieces]


def run_compiled(
    how: Way, rule: Rule, parts: list[Bucket], options: Group, numbers: State, ok: Tensor | None
) -> Iterator[list[Tensor]]:
    """`how(rule, b, ok)` for the buckets that `joined` made of a cohort, and the sums of each."""
    device = parts[0].param.tensors[0].device
    layouts, flat, constants = _laid_out([options, numbers], device)
    names = tuple(name for name, value in vars(parts[0]).items() if isinstance(value, TensorList))
    dtypes = tuple(getattr(parts[0], name).tensors[0].dtype for name in names)
    threads = torch.get_num_threads()  # which a kernel for a CPU takes at its compilation
    kernel = _kernel(how, rule, device, names, dtypes, layouts, constants, ok is not None, threads)
    after = (flat,) if ok is None else (flat, ok)
    for b in parts:
        b.source.fetch()
        yield kernel(*(getattr(b, name).tensors[0] for name in names), *after)


@functools.cache
def _kernel(
    how: Way,
    rule: Rule,
    device: torch.device,
    names: tuple[str, ...],
    dtypes: tuple[torch.dtype, ...],
    layouts: tuple[Layout, ...],
    constants: tuple[Any, ...],
    undoable: bool,
    threads: int,
) -> Kernel:
    def function(*inputs: Tensor) -> list[Tensor]:
        *tensors, flat, ok = inputs if undoable else (*inputs, None)
        lists = {name: TensorList([tensor]) for name, tensor in zip(names, tensors, strict=True)}
        values = iter(flat.unbind())
        group, numbers = (
            {name: tuple(next(values) for _ in range(n)) if n else next(values) for name, n in row}
            for row in layouts
        )
        group.update(constants[0])
        return how(rule, Bucket(group=group, **lists, **numbers, **dict(constants[1])), ok)

    return Kernel(function, _compiler_options(device.type))


def _compiler_options(device: str) -> dict[str, Any]:
    # Without it the compiler leaves out the rounding to bfloat16 that run() compensates.
    options: dict[str, Any] = {"emulate_precision_casts": True}
    # The compiler's scheduler is no public interface; in other versions sums are more loops.
    if device == "cpu" and torch.__version__.startswith("2.13."):
        from selftune.optim.engine import one_loop

        options.update(one_loop.OPTIONS)
    return options


def _laid_out(
    rows: list[dict[str, Any]], device: torch.device
) -> tuple[tuple[Layout, ...], Tensor, tuple[Any, ...]]:
    """Floats (also in sequences) and 0-d tensors in one tensor, and where they lie; all else as
    constants."""
    # float64 so that 1 - beta keeps its digits.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    layouts: list[Layout] = []
    constants: list[Any] = []
    values: list[Any] = []
    for row in rows:
        variable: dict[str, Number | Sequence[Number]] = {
            name: value for name, value in row.items() if _varies(value)
        }
        layouts.append(
            tuple((n, len(v) if isinstance(v, tuple | list) else 0) for n, v in variable.items())
        )
        constants.append(tuple((n, v) for n, v in row.items() if n not in variable))
        for value in variable.values():
            values.extend(value if isinstance(value, tuple | list) else [value])
    # What the host knows goes over in one transfer; what it does not is never read.
    known = [0.0 if isinstance(v, Tensor) and v.device == device else float(v) for v in values]
    flat = torch.tensor(known, dtype=dtype, device=device)
    for i, value in enumerate(values):
        if isinstance(value, Tensor) and value.device == device:
            flat[i] = value
    return tuple(layouts), flat, tuple(constants)


def _varies(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return value not in ((), [])
    return isinstance(value, float | np.floating | Tensor)
