"""Functions of 1-D tensors, compiled once for all lengths and called without guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., list[Tensor]]
Condition = Callable[[Sequence[Tensor]], bool]


class Kernel:
    """A function of tensors of one dimension or none, compiled.

    One is for inputs of the same number, types and device. What the compiler assumed of their
    lengths is looked at when lengths are new, not in every call, as torch.compile would: its look
    at the arguments takes longer than many a kernel.
    """

    def __init__(self, function: Function, options: dict[str, Any]) -> None:
        self.function = function
        # A cached graph comes with what it assumes of numbers among its inputs, not of lengths.
        # Asserting sizes takes time in every call; `fits` has compared them.
        self.options = {**options, "fx_graph_cache": False, "size_asserts": False}
        self.compiled: list[tuple[Condition, Function]] = []
        self.by_lengths: dict[tuple[int, ...], Function] = {}

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        lengths = tuple(tensor.numel() for tensor in inputs)
        run = self.by_lengths.get(lengths)
        if run is None:
            run = self.by_lengths[lengths] = self._fitting(inputs)
        return run(*inputs)

    def _fitting(self, inputs: Sequence[Tensor]) -> Function:
        from torch._dynamo.convert_frame import compile_lock  # large, as the compiler is

        for fits, run in self.compiled:
            if fits([_by_itself(tensor) for tensor in inputs]):
                return run
        with compile_lock:  # the compiler serves one thread at a time
            fits, run = _compiled(self.function, inputs, self.options)
        self.compiled.append((fits, run))
        return run


def _compiled(
    function: Function, inputs: Sequence[Tensor], options: dict[str, Any]
) -> tuple[Condition, Function]:
    """The compiled function, and whether it holds for other inputs."""
    from torch.fx.experimental.proxy_tensor import make_fx  # large, as the compiler is

    trace = make_fx(function, {aten._foreach_norm.Scalar: _norms}, tracing_mode="symbolic")
    graph = trace(*map(_by_itself, inputs))
    fakes: list[Any] = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
    run: Any = torch._inductor.compile(graph, fakes, options)  # pyright: ignore
    shape_env = fakes[0].fake_mode.shape_env
    assumed = shape_env.produce_guards_expression(fakes, ignore_static=False)
    return lambda others: shape_env.evaluate_guards_expression(assumed, others), run


def _by_itself(tensor: Tensor) -> Tensor:
    """The same memory as a tensor that is no view and shares no storage: of those the compiler
    would assume how they lie to each other."""
    storage: Any = tensor.untyped_storage()
    size = tensor.element_size()
    start = tensor.storage_offset() * size
    alone = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    part = storage[start : start + tensor.numel() * size]
    return alone.set_(part, 0, tensor.shape, tensor.stride())


aten: Any = torch.ops.aten


def _norms(tensors: list[Tensor], ord: float = 2, dtype: Any = None) -> list[Tensor]:
    """A multi-tensor norm as norms that the compiler writes into a loop, and does not call."""
    return [aten.linalg_vector_norm(tensor, ord, dtype=dtype) for tensor in tensors]
