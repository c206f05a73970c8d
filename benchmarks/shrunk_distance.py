"""Schedule-Free Prodigy whose step size is shrunk towards a prior, on the pocket workloads.

    python -m eval.self_tuning --method benchmarks/shrunk_distance.py:shrunk [--seed 1]

A step is not Prodigy's d but sqrt(prior * d): halfway, in the logarithm, between what is estimated
and the learning rate that Schedule-Free AdamW has by default. docs/log.md has what came of it.
"""

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eval.methods import Built
from eval.methods.schedule_free import WINNER_BETAS, WINNER_R, WINNER_WEIGHT_DECAY
from selftune import optim

PRIOR = 0.0025
# A step stays within this factor of the prior: at first d is d0, which says nothing.
REACH = 4.0
WARMUP = 0.05  # of step_hint


class Shrunk(LRScheduler):
    """Sets the learning rate such that it makes of d a step of sqrt(prior * d), warmed up.

    It reads d, for which an accelerator would have to be waited for.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int) -> None:
        self._warmup_steps = warmup_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        warmup = min(1.0, (self.last_epoch + 1) / self._warmup_steps)
        distances = [float(group["d"]) for group in self.optimizer.param_groups]
        return [warmup * _step_size(d) / d for d in distances]


def shrunk(model: nn.Module, num_steps: int) -> Built:
    """schedule_free_prodigy otherwise; lr is no warm-up alone here, and so enters s, too."""
    optimizer = optim.ScheduleFreeProdigy(
        model.parameters(),
        betas=WINNER_BETAS,
        weight_decay=WINNER_WEIGHT_DECAY,
        r=WINNER_R,
    )
    schedule = Shrunk(optimizer, max(1, round(WARMUP * num_steps)))
    return optimizer, schedule, optimizer.evaluation_weights


def _step_size(d: float) -> float:
    return min(max((PRIOR * d) ** 0.5, PRIOR / REACH), PRIOR * REACH)
