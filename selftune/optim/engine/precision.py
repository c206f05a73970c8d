"""Running an update rule on a bucket: in place, undoably, and in float32 for 16-bit types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from selftune.optim.engine.cohorts import Bucket
from selftune.optim.engine.skipped_steps import finiteness
from selftune.tensor_list import TensorList

Function = TypeVar("Function", bound=Callable[..., Any])
Rule = Callable[[Bucket], Sequence[Tensor]]

# Rules compute with parameters of these types in float32, and their state is float32. The state
# `compensation` keeps the rounding error of the parameters, so that small steps add up.
LOW_PRECISION = (torch.bfloat16, torch.float16)


def uncompiled(function: Function) -> Function:
    """A decorator: torch.compile does not trace the function."""
    return cast(Function, torch.compiler.disable(function))  # pyright: ignore[reportUnknownMemberType]


def run(rule: Rule, b: Bucket, ok: Tensor | None) -> list[Tensor]:
    """Run a rule on a bucket and return its sums.

    ok: a 0-d boolean on the device, never read by the host; if it is false, the bucket does not
        change and the sums are 0. None: run the rule in any case.
    """
    if ok is None and not _is_low_precision(b):
        return list(rule(b))
    old = {name: value for name, value in b.attributes.items() if isinstance(value, TensorList)}
    old.pop("grad", None)
    new = {name: value if ok is None else value.clone() for name, value in old.items()}
    worked_on = in_float32(b.given(new))
    sums = list(rule(worked_on))
    if _is_low_precision(b):
        dtype = b.param.tensors[0].dtype
        new["param"] = worked_on.param.to(dtype)
        lost = worked_on.param.sub(new["param"].to(torch.float32))
        new["compensation"] = lost.to(torch.bfloat16)
    for name, tensors in old.items():
        value = new[name] if ok is None else new[name].where(ok, tensors)
        if value is not tensors:
            tensors.copy_(value)
    return sums if ok is None else [torch.where(ok, value, 0.0) for value in sums]


def look(measure: Rule, b: Bucket, ok: Tensor | None = None) -> list[Tensor]:
    """A number that is finite if all gradients and their squares are, then `measure`'s sums."""
    return [finiteness(b.grad), *measure(in_float32(b))]


def in_float32(b: Bucket) -> Bucket:
    """The bucket with low-precision parameters in float32, their compensation added."""
    if not _is_low_precision(b):
        return b
    wide = {"param": b.param.to(torch.float32).add_(b.compensation.to(torch.float32))}
    if "grad" in b.attributes:
        wide["grad"] = b.grad.to(torch.float32)
    return b.given(wide)


def _is_low_precision(b: Bucket) -> bool:
    return "compensation" in b.attributes
