"""Means over all GPUs, with one process for each."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def mean_loss(summed: Tensor, n_valid: Any) -> tuple[Tensor, Tensor]:
    """The loss to differentiate on this GPU, and the mean loss over the batches of all GPUs.

    DDP averages gradients over GPUs. For the loss `summed` * GPUs / valid examples of all GPUs, the
    average is the gradient of the mean loss, even if GPUs have different numbers of examples.
    """
    both = torch.stack([summed.detach(), torch.as_tensor(n_valid).to(summed)])
    if world_size() > 1:
        dist.all_reduce(both)
    return summed * (world_size() / both[1]), both[0] / both[1]


def synchronizes(model: nn.Module) -> bool:
    """Whether the model's gradients are averaged; v0.6's runner drops DDP when it resumes."""
    uncompiled = getattr(model, "_orig_mod", model)
    return world_size() == 1 or isinstance(uncompiled, DistributedDataParallel)


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the GPUs."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor.div_(world_size())


def agreed(here: bool) -> bool:
    """Whether a condition holds on any GPU: clocks differ, and all GPUs must do the same."""
    if world_size() == 1:
        return here
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    anywhere = torch.tensor(float(here), device=device)
    dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
    return bool(anywhere)


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
