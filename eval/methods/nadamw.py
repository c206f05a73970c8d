"""NAdamW, AlgoPerf's baseline."""

from torch import nn

from selftune import optim, schedules

from . import horizon
from .method import Built, Method


def nadamw(model: nn.Module, num_steps: int) -> Built:
    """AlgoPerf v0.5's self-tuning baseline: NAdamW's defaults are its calibrated point."""
    optimizer = optim.NAdamW(model.parameters())
    schedule = schedules.cosine(num_steps).with_warmup(round(0.02 * num_steps))
    return optimizer, schedules.ScheduleLR(optimizer, schedule), None


def nadamw_pocket(model: nn.Module, num_steps: int) -> Built:
    """The calibrated baseline of this scale: the best mean rank over the searches for targets.

    `eval.targets.calibration` finds it. Its schedule is longer than the searches': AlgoPerf's
    baselines, too, decay over 4/3 of the steps that its target-setting runs decay over.
    """
    optimizer = optim.NAdamW(
        model.parameters(), lr=0.00351666, betas=(0.878879, 0.982709), weight_decay=0.0112289
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.1), None


NADAMW = Method(
    "nadamw",
    "NAdamW, lr .00174864, betas .9326607/.995516, cosine after 2 % warm-up",
    "decoupled .0812 x lr, all parameters, as AlgoPerf's baseline",
    nadamw,
)
NADAMW_POCKET = Method(
    "nadamw_pocket",
    "NAdamW, lr .00351666, betas .878879/.982709, cosine over 4/3 x after 10 % warm-up",
    "decoupled .0112 x lr, all parameters, as AlgoPerf's baseline",
    nadamw_pocket,
)
