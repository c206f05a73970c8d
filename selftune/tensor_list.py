"""Arithmetic on many tensors at once: the only module that calls torch's `_foreach_` functions."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Scalar = float | Tensor  # a number known on the host, or a 0-d tensor where the tensors live


class TensorList:
    """Several tensors under the method names of one `torch.Tensor`.

    A method with a trailing underscore works in place and returns the list. Each is one
    multi-tensor call, whatever the number of tensors. Numbers may be floats or 0-d tensors;
    a 0-d tensor is never read back to the host.
    """

    __slots__ = ("tensors",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def clone(self) -> TensorList:
        return TensorList([tensor.clone() for tensor in self.tensors])

    def to(self, dtype: torch.dtype) -> TensorList:
        return TensorList([tensor.to(dtype) for tensor in self.tensors])

    def where(self, condition: Tensor, other: TensorList) -> TensorList:
        """These tensors where the 0-d `condition` is true, the others where it is not."""
        pairs = zip(self.tensors, other.tensors, strict=True)
        return TensorList([torch.where(condition, a, b) for a, b in pairs])

    def copy_(self, other: TensorList, *, non_blocking: bool = False) -> TensorList:
        torch._foreach_copy_(self.tensors, other.tensors, non_blocking)
        return self

    def every(self, step: int) -> TensorList:
        """Every `step`-th element of each tensor, from the first on, as 1-D tensors.

        With a step of 1 the tensors keep their shapes.
        """
        if step == 1:
            return self
        return TensorList([tensor.flatten()[::step] for tensor in self.tensors])

    def zero_(self) -> TensorList:
        if self.tensors:
            torch._foreach_zero_(self.tensors)
        return self

    def mul(self, other: TensorList | Scalar) -> TensorList:
        if self._promoted_by(other):
            return self.clone().mul_(other)
        return TensorList(torch._foreach_mul(self.tensors, _operand(other)))

    def mul_(self, other: TensorList | Scalar) -> TensorList:
        torch._foreach_mul_(self.tensors, _operand(other))
        return self

    def div(self, other: TensorList | Scalar) -> TensorList:
        if self._promoted_by(other):
            return self.clone().div_(other)
        return TensorList(torch._foreach_div(self.tensors, _operand(other)))

    def div_(self, other: TensorList | Scalar) -> TensorList:
        torch._foreach_div_(self.tensors, _operand(other))
        return self

    def add(self, other: TensorList | Scalar, *, alpha: Scalar = 1) -> TensorList:
        if not isinstance(other, TensorList):
            return self.clone().add_(other, alpha=alpha)
        if isinstance(alpha, Tensor):
            return other.mul(alpha).add_(self)
        return TensorList(torch._foreach_add(self.tensors, other.tensors, alpha=alpha))

    def add_(self, other: TensorList | Scalar, *, alpha: Scalar = 1) -> TensorList:
        if not isinstance(other, TensorList):
            number = other * alpha
            if isinstance(number, Tensor):
                # The overload for a 0-d tensor; the Python binding would call `.item()`.
                torch.ops.aten._foreach_add_.Tensor(self.tensors, number)
            else:
                torch._foreach_add_(self.tensors, number)
        elif isinstance(alpha, Tensor):
            torch._foreach_add_(self.tensors, other.mul(alpha).tensors)
        else:
            torch._foreach_add_(self.tensors, other.tensors, alpha=alpha)
        return self

    def sub(self, other: TensorList) -> TensorList:
        return TensorList(torch._foreach_sub(self.tensors, other.tensors))

    def lerp(self, end: TensorList, weight: Scalar) -> TensorList:
        if isinstance(weight, Tensor):
            return end.sub(self).mul_(weight).add_(self)
        return TensorList(torch._foreach_lerp(self.tensors, end.tensors, weight))

    def lerp_(self, end: TensorList, weight: Scalar) -> TensorList:
        if isinstance(weight, Tensor):
            return self.add_(end.sub(self).mul_(weight))
        if self.tensors and end.tensors[0].dtype != self.tensors[0].dtype:
            end = end.to(self.tensors[0].dtype)  # foreach lerp takes one type only
        torch._foreach_lerp_(self.tensors, end.tensors, weight)
        return self

    def addcmul_(self, one: TensorList, other: TensorList, *, value: Scalar = 1) -> TensorList:
        if isinstance(value, Tensor):
            return self.add_(one.mul(other).mul_(value))
        torch._foreach_addcmul_(self.tensors, one.tensors, other.tensors, value)
        return self

    def addcdiv_(self, one: TensorList, other: TensorList, *, value: Scalar = 1) -> TensorList:
        if isinstance(value, Tensor):
            return self.add_(one.div(other).mul_(value))
        torch._foreach_addcdiv_(self.tensors, one.tensors, other.tensors, value)
        return self

    def maximum_(self, other: TensorList | Scalar) -> TensorList:
        if isinstance(other, Tensor):
            other = TensorList([other.to(tensor.dtype) for tensor in self.tensors])
        if isinstance(other, TensorList):
            torch._foreach_maximum_(self.tensors, other.tensors)
        else:
            torch._foreach_clamp_min_(self.tensors, other)
        return self

    def sqrt(self) -> TensorList:
        return TensorList(torch._foreach_sqrt(self.tensors))

    def sqrt_(self) -> TensorList:
        torch._foreach_sqrt_(self.tensors)
        return self

    def dot(self, other: TensorList) -> Tensor:
        """The inner product over all elements, a 0-d tensor."""
        pairs = zip(self.tensors, other.tensors, strict=True)
        return torch.stack([torch.dot(a.flatten(), b.flatten()) for a, b in pairs]).sum()

    def sum(self) -> Tensor:
        """The sum of all elements, a 0-d tensor."""
        return torch.stack([tensor.sum() for tensor in self.tensors]).sum()

    def norm(self, ord: float = 2, dtype: torch.dtype | None = None) -> Tensor:
        """The vector norm over all elements, a 0-d tensor.

        dtype: what it is computed in. Defaults to float32 for tensors of fewer than 32 bits, else
            to the tensors' own.
        """
        if dtype is None and self.tensors[0].dtype.itemsize < 4:
            dtype = torch.float32
        return torch.linalg.vector_norm(torch.stack(self._norms(ord, dtype)), ord)

    def rough_sum_of_squares(self) -> Tensor:
        """The square of the 2-norm, whose last digits may differ from call to call."""
        one = self.tensors[0]
        if len(self) == 1 and one.is_cpu and one.is_contiguous() and one.dtype.itemsize >= 4:
            # On a CPU an inner product is faster, but its rounding depends on memory alignment.
            elements = one if one.dim() == 1 else one.view(-1)
            return torch.dot(elements, elements)
        return self.norm() ** 2

    def none_or_nan(self) -> Tensor:
        """0 if the square of each element is finite, NaN if not: a 0-d tensor."""
        filled = [each for each in self.tensors if each.numel()]  # a rank's shard may be empty
        if not filled:
            return torch.zeros((), device=self.tensors[0].device)
        largest = TensorList(filled).norm(float("inf"))
        return 0 * (largest * largest)

    def without_zeros_(self, eps: Scalar) -> TensorList:
        """Replace 0 by infinity, so that dividing by it gives 0, even for 0 / 0.

        eps: what was added to these non-negative numbers. Unless it may be too small for that,
            there are no zeros to replace.
        """
        if isinstance(eps, Tensor) or eps < 1e-20:
            for tensor in self.tensors:
                tensor.masked_fill_(tensor == 0, float("inf"))
        return self

    def without_tiny_(self, bound: float) -> TensorList:
        """Replace elements within `bound` of 0 by 0, on CPUs only.

        An average of zeros decays to denormal numbers, which rounding keeps from reaching 0 and
        with which a CPU computes many times more slowly. Other devices do not, and are left alone.
        """
        for tensor in self.tensors:
            if tensor.is_cpu:
                tensor.copy_(torch.nn.functional.hardshrink(tensor, bound))
        return self

    def norms(self) -> Tensor:
        """The 2-norm of each tensor: one dimension, an entry per tensor."""
        return torch.stack(self._norms(2, None))

    def _norms(self, ord: float, dtype: torch.dtype | None) -> list[Tensor]:
        if torch.compiler.is_compiling():
            # The compiler fuses these with the rest of a rule, but not a multi-tensor norm.
            return [torch.linalg.vector_norm(each, ord, dtype=dtype) for each in self.tensors]
        return list(torch._foreach_norm(self.tensors, ord, dtype))

    def _promoted_by(self, other: TensorList | Scalar) -> bool:
        # Out of place, foreach functions promote 0-d members to the wider type of a 0-d operand.
        return isinstance(other, Tensor) and other.dtype != self.tensors[0].dtype


def _operand(other: TensorList | Scalar) -> list[Tensor] | Scalar:
    return other.tensors if isinstance(other, TensorList) else other
