"""The rank that writes the files of a distributed run."""

from __future__ import annotations

import torch


def is_first_rank() -> bool:
    """Whether this is rank 0, or the only process."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not distributed or torch.distributed.get_rank() == 0
