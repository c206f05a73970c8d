"""A model's parameters and buffers, under names that do not depend on its wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from selftune.dtensor import own_part

# Names under which torch.compile and activation checkpointing keep the module that they wrap.
WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module")


class Place(NamedTuple):
    """A parameter or buffer by its module's dict and key there, as the tensor may be replaced."""

    tensors: dict[str, Any]
    key: str

    @property
    def tensor(self) -> Tensor:
        return self.tensors[self.key]


def parameters(model: nn.Module) -> dict[str, Place]:
    """Every parameter once, under its first name."""
    return _distinct(
        (prefix + key, Place(module._parameters, key))
        for prefix, module in _modules(model, "")
        for key in module._parameters
    )


def buffers(model: nn.Module) -> dict[str, Place]:
    """Every buffer once, under its first name."""
    return _distinct(
        (prefix + key, Place(module._buffers, key))
        for prefix, module in _modules(model, "")
        for key in module._buffers
    )


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """Restore the model's buffers after the block, both the tensor objects and their values."""
    held = [(place, place.tensor, place.tensor.clone()) for place in buffers(model).values()]
    try:
        yield
    finally:
        for place, tensor, values in held:
            place.tensors[place.key] = tensor.copy_(values)


def innermost(module: nn.Module) -> nn.Module:
    """The module without the wrappers around it."""
    while True:
        if isinstance(module, DataParallel | DistributedDataParallel):
            module = module.module
            continue
        inner = next((module._modules[name] for name in WRAPPED if name in module._modules), None)
        if inner is None:
            return module
        module = inner


def fsdp_modules(model: nn.Module) -> list[Any]:
    """The modules of `fully_shard`.

    From a forward pass on they hold full parameters, until the end of the backward pass or, if
    there is none, until `reshard` is called.
    """
    return [module for module in model.modules() if hasattr(type(module), "reshard")]


def reshard(modules: list[Any]) -> None:
    """Replace full parameters by their shards, which are what an average reads and writes."""
    for module in modules:
        module.reshard()


def local(tensor: Tensor) -> Tensor:
    """The local tensor, detached, with complex numbers viewed as real."""
    tensor = own_part(tensor.detach())
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _modules(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    module = innermost(module)
    yield prefix, module
    for name, child in module.named_children():
        yield from _modules(child, f"{prefix}{name}.")


def _distinct(places: Iterator[tuple[str, Place]]) -> dict[str, Place]:
    found: dict[int, tuple[str, Place]] = {}
    for name, place in places:
        if place.tensors[place.key] is not None:
            found.setdefault(id(place.tensor), (name, place))
    return dict(found.values())
