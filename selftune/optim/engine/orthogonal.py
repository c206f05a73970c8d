"""Orthogonalization of matrices by Newton-Schulz iterations, as in Muon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import is_sharded

# Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/: an odd polynomial that
# takes singular values from (0, 1] to about 1, within [0.7, 1.2], in five iterations.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def as_matrix(tensor: Tensor) -> Tensor:
    """A tensor as a matrix whose rows are outputs: a convolution's kernel has a row per channel."""
    return tensor.reshape(tensor.shape[0], -1)


def orthogonalized(tensors: Sequence[Tensor]) -> list[Tensor]:
    """For each tensor its nearest semi-orthogonal matrix, approximately.

    That is U V^T, where U S V^T is the singular value decomposition of `as_matrix(tensor)`. The
    singular values of the result lie between 0.7 and 1.2; a matrix of zeros stays zero. Matrices
    of the same shape are computed as one batch.
    """
    found: dict[int, Tensor] = {}
    alike: dict[torch.Size, list[int]] = {}
    for i, tensor in enumerate(tensors):
        alike.setdefault(as_matrix(tensor).shape, []).append(i)
    for chosen in alike.values():
        batch = torch.stack([as_matrix(tensors[i]) for i in chosen])  # (matrices, rows, columns)
        for i, matrix in zip(chosen, _newton_schulz(batch), strict=True):
            found[i] = matrix.reshape(tensors[i].shape)
    return [found[i] for i in range(len(tensors))]


def orthogonalized_parts(members: Sequence[Any], parts: Sequence[Tensor]) -> list[Tensor]:
    """`orthogonalized` for tensors that may be sharded: returns this rank's shards of the results.

    members: the parameters.
    parts: this rank's shards of the tensors, which are sharded like the parameters.
    Every rank gathers the full matrices and computes the same results.
    """
    whole = [
        _gathered(p, part) if is_sharded(p) else part
        for p, part in zip(members, parts, strict=True)
    ]
    return [
        _own_part(p, matrix) if is_sharded(p) else matrix
        for p, matrix in zip(members, orthogonalized(whole), strict=True)
    ]


def _newton_schulz(batch: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    tall = batch.shape[1] > batch.shape[2]
    x: Tensor = batch.transpose(1, 2) if tall else batch
    tiny = torch.finfo(x.dtype).tiny
    # Divide by the largest element first, so that squares neither overflow nor underflow.
    largest: Tensor = torch.amax(x.abs(), (1, 2), keepdim=True)
    x = x / largest.clamp(min=tiny)
    norm: Tensor = x.square().sum((1, 2), keepdim=True).sqrt()
    x = x / norm.clamp(min=tiny)
    for _ in range(ITERATIONS):
        gram: Tensor = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.transpose(1, 2) if tall else x


def _gathered(p: Any, part: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    like = DTensor.from_local(
        part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
    )
    return like.full_tensor()


def _own_part(p: Any, whole: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate()] * p.device_mesh.ndim
    replicated = DTensor.from_local(whole, p.device_mesh, everywhere, run_check=False)
    return replicated.redistribute(placements=p.placements).to_local()
