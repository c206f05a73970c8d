"""Methods for the harness: SelfTune with other settings, and a common AdamW.

    python -m eval.self_tuning --suite wide --workload all \\
        --method benchmarks/self_tune_variants.py:first_lr_tenth

docs/log.md has the results.
"""

from collections.abc import Callable

import torch
from torch import nn

from eval.methods import Built
from selftune import SelfTune


def _variant(**options: float) -> Callable[[nn.Module, int], Built]:
    def build(model: nn.Module, num_steps: int) -> Built:
        optimizer = SelfTune(model.parameters(), **options)
        return optimizer, None, optimizer.evaluation_weights

    return build


first_lr_tenth = _variant(lr=0.0003)
first_lr_tenfold = _variant(lr=0.03)
no_weight_decay = _variant(weight_decay=0.0)
double_weight_decay = _variant(weight_decay=0.1)


def adamw_cosine(model: nn.Module, num_steps: int) -> Built:
    """AdamW at its default lr of .001 with a cosine to 0 over the run."""
    optimizer = torch.optim.AdamW(model.parameters())
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps), None
