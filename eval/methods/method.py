"""A method: a build function with a name."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

Weights = Callable[[], AbstractContextManager[object]]
Built = tuple[torch.optim.Optimizer, LRScheduler | None, Weights | None]
Build = Callable[[nn.Module, int], Built]


@dataclass(frozen=True)
class Method:
    """A configuration with a name."""

    name: str
    summary: str  # the configuration, in one line
    weight_decay: str  # what is decayed, and how
    build: Build  # (model, num_steps) -> optimizer, scheduler, evaluation weights
