"""Norms and inner products over tensors of any dtype, device, sparsity and sharding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import whole
from selftune.tensor_list import TensorList


def norm(tensors: Sequence[Tensor], ord: float) -> Tensor:
    """The vector norm over all elements of all tensors, 0-d, on the first tensor's device."""
    alike: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        dense = tensor.coalesce().values() if tensor.is_sparse else tensor
        alike.setdefault((dense.device, dense.dtype, type(dense)), []).append(dense)
    # The norm of DTensors is itself a DTensor, which `whole` completes over the ranks.
    norms = [
        whole(TensorList(same).norm(ord, _accurate(dtype))) for (_, dtype, _), same in alike.items()
    ]
    return torch.linalg.vector_norm(_together(norms), ord)


def dot(ones: Iterable[Tensor], others: Iterable[Tensor]) -> Tensor:
    """The sum of the real inner products of pairs of tensors, 0-d, on the first one's device."""
    products = []
    for one, other in zip(ones, others, strict=True):
        one = one.to_dense() if one.is_sparse else one
        dtype = torch.promote_types(_accurate(one.dtype) or one.dtype, other.dtype)
        product = one.to(dtype) * (other.conj() if other.is_complex() else other)
        products.append(whole((product.real if product.is_complex() else product).sum()))
    return _together(products).sum()


def _accurate(dtype: torch.dtype) -> torch.dtype | None:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else None


def _together(numbers: list[Tensor]) -> Tensor:
    device = numbers[0].device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.stack([number.to(device, dtype, non_blocking=True) for number in numbers])
