"""Counts of what a call reads, writes and allocates: `Traffic`, `words_moved`.

An operation of torch reads each of its input tensors once, and writes its results and the arguments
that it changes according to its schema. It does not read tensors that it only overwrites (copy_,
zero_, fill_). Views and empty tensors move nothing. Torch's fused optimizers only read the
gradients; they write them only if there is a scale to undo.

A kernel compiled for a CPU is counted loop by loop from its source: a loop over the elements
reads the tensors that it loads from and writes those that it stores to, once each.

Caches are ignored: a value that one operation writes and the next one reads counts twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.codecache import PyCodeCache
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

KERNEL = re.compile(r"^(\w+) = async_compile\.cpp_pybinding\(.*?r'''(.*?)'''\)", re.M | re.S)
LOOP = "for(int64_t x0=static_cast<int64_t>(0L)"  # a loop with another start does its remainder
POINTER = r"\b(?:in_out|in|out)_ptr\d+\b"
ALIAS = re.compile(rf"^\s*auto ({POINTER}) = ({POINTER});", re.M)
STORE = re.compile(rf"(?:\.store\(|^\s*)({POINTER})", re.M)


def words_moved(call: Callable[[], object]) -> float:
    """The words (4 bytes) that a call reads and writes, including compiled kernels.

    Kernels that the call compiles are not counted; they must have been compiled before.
    """
    with Traffic(peak=False) as traffic, _kernels_counted_in(traffic):
        call()
    return traffic.moved / 4


class Traffic(TorchDispatchMode):
    """Counts, on this thread, operations and the bytes that they read, write and allocate.

    Operations that write no element (views, empty tensors) count as calls only.
    peak: whether to measure, after each operation, how many bytes are held.
    """

    def __init__(self, peak: bool = True) -> None:
        super().__init__()
        self.calls = self.moved = self.most_held = 0
        self._peak = peak
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True  # otherwise compiled code would not run compiled

    @property
    def held(self) -> int:
        """Bytes of tensors that were created inside and are alive."""
        self._made = {key: made for key, made in self._made.items() if not made[0].expired()}
        return sum(size for _, size in self._made.values())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls += 1
        if func.is_view:
            return result
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | (kwargs or {})
        read: list[Tensor] = []
        written: list[Tensor] = []
        for argument in func._schema.arguments:
            tensors = _tensors(given.get(argument.name))
            reads, writes = _moves(func, argument)
            read += tensors if reads else []
            written += tensors if writes else []
        old = {tensor.untyped_storage()._cdata for tensor in _tensors([*given.values()])}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in old:
                self._made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
                written += [] if func.__name__.startswith(("empty", "new_empty")) else [tensor]
        self.moved += _bytes(read) + _bytes(written)
        if self._peak:
            self.most_held = max(self.most_held, self.held)
        return result


def _moves(func: torch._ops.OpOverload, argument: torch.Argument) -> tuple[bool, bool]:
    """Whether a call reads an argument, and whether it writes it."""
    name = func.__name__.split(".")[0]
    written = argument.alias_info is not None and argument.alias_info.is_write
    if name == "set_" or name.endswith("_like") or name.startswith("new_"):
        return False, False
    if name.startswith("_fused_") and argument.name == "grads":
        return True, False
    return not (written and name in ("copy_", "_foreach_copy_", "zero_", "fill_")), written


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in _tensors(v)] if isinstance(value, list | tuple) else []


def _bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes of all distinct tensors."""
    return sum(size for _, size in {(tensor.data_ptr(), tensor.nbytes) for tensor in tensors})


@contextmanager
def _kernels_counted_in(traffic: Traffic) -> Iterator[None]:
    """A context in which compiled code counts each kernel before it runs it."""
    kernels = [
        (module, name, getattr(module, name), source)
        for module in PyCodeCache.modules
        for name, source in KERNEL.findall(Path(str(module.__file__)).read_text())
    ]
    for module, name, kernel, source in kernels:
        setattr(module, name, _counted(kernel, source, traffic))
    try:
        yield
    finally:
        for module, name, kernel, _ in kernels:
            setattr(module, name, kernel)


def _counted(kernel: Callable[..., Any], source: str, traffic: Traffic) -> Callable[..., Any]:
    signature, body = source.split("{", 1)
    names = re.findall(r"\w+(?=[,)])", signature)
    aliases = ALIAS.findall(body)
    loops = ALIAS.sub("", body).split(LOOP)
    accesses = [re.findall(POINTER, STORE.sub("", loop)) for loop in loops]
    accesses += [STORE.findall(loop) for loop in loops]

    def launch(*args: Any) -> Any:
        given = dict(zip(names, args, strict=True))
        given |= {alias: given[name] for alias, name in aliases}
        traffic.moved += sum(_bytes(given[name] for name in pointers) for pointers in accesses)
        return kernel(*args)

    return launch
