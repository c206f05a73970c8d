"""The methods under test: each is one configuration for all workloads.

A method never sees the workload: it is given a model and the number of steps that a calibrated
baseline would take, and answers with an optimizer, a scheduler and its evaluation weights.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from selftune import optim, schedules

Weights = Callable[[], AbstractContextManager[object]]
Built = tuple[torch.optim.Optimizer, LRScheduler | None, Weights | None]
Build = Callable[[nn.Module, int], Built]

# The point of AlgoPerf v0.5's self-tuning winner, but for its learning rate and warm-up.
WINNER_BETAS, WINNER_WEIGHT_DECAY, WINNER_R = (0.9, 0.9955159689799007), 0.08121616522670176, 0.75


@dataclass(frozen=True)
class Method:
    """A configuration with a name."""

    name: str
    summary: str  # the configuration, in one line
    weight_decay: str  # what is decayed, and how
    build: Build  # (model, num_steps) -> optimizer, scheduler, evaluation weights


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
    steps = round(4 / 3 * num_steps)
    schedule = schedules.cosine(steps).with_warmup(round(0.1 * steps))
    return optimizer, schedules.ScheduleLR(optimizer, schedule), None


def adamw(model: nn.Module, num_steps: int) -> Built:
    """What people write when they do not think about it, with the better decay."""
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return optimizer, schedules.ScheduleLR(optimizer, schedules.linear(num_steps)), None


def schedule_free_adamw(model: nn.Module, num_steps: int) -> Built:
    """The configuration that won AlgoPerf v0.5's self-tuning ruleset."""
    optimizer = optim.ScheduleFreeAdamW(
        model.parameters(),
        lr=0.0025,
        betas=WINNER_BETAS,
        weight_decay=WINNER_WEIGHT_DECAY,
        warmup_steps=round(0.015 * num_steps),
        r=WINNER_R,
    )
    return optimizer, None, optimizer.evaluation_weights


def schedule_free_prodigy(model: nn.Module, num_steps: int) -> Built:
    """The above with an estimated step size in place of its learning rate.

    Prodigy multiplies what the warm-up lets through, so that one lasts a little longer.
    """
    optimizer = optim.ScheduleFreeProdigy(
        model.parameters(),
        betas=WINNER_BETAS,
        weight_decay=WINNER_WEIGHT_DECAY,
        safeguard_warmup=True,
        r=WINNER_R,
    )
    schedule = schedules.constant(num_steps).with_warmup(round(0.05 * num_steps))
    return optimizer, schedules.ScheduleLR(optimizer, schedule), optimizer.evaluation_weights


def prodigy(model: nn.Module, num_steps: int) -> Built:
    """The paper's defaults and its recommended schedule."""
    optimizer = optim.Prodigy(model.parameters())
    return optimizer, schedules.ScheduleLR(optimizer, schedules.cosine(num_steps)), None


def dadapt_adam(model: nn.Module, num_steps: int) -> Built:
    """The paper's defaults with a cosine schedule."""
    optimizer = optim.DAdaptAdam(model.parameters())
    return optimizer, schedules.ScheduleLR(optimizer, schedules.cosine(num_steps)), None


METHODS = {
    method.name: method
    for method in (
        Method(
            "nadamw",
            "NAdamW, lr .00174864, betas .9326607/.995516, cosine after 2 % warm-up",
            "decoupled .0812 x lr, all parameters, as AlgoPerf's baseline",
            nadamw,
        ),
        Method(
            "nadamw_pocket",
            "NAdamW, lr .00351666, betas .878879/.982709, cosine over 4/3 x after 10 % warm-up",
            "decoupled .0112 x lr, all parameters, as AlgoPerf's baseline",
            nadamw_pocket,
        ),
        Method(
            "adamw",
            "AdamW, lr .001, betas .9/.999, linear decay",
            "decoupled .01 x lr, all parameters, as torch's default",
            adamw,
        ),
        Method(
            "schedule_free_adamw",
            "Schedule-Free AdamW, lr .0025, betas .9/.995516, r .75, 1.5 % warm-up, no decay of lr",
            "decoupled .0812 x lr at y, all parameters (AlgoPerf's winner took it at x)",
            schedule_free_adamw,
        ),
        Method(
            "schedule_free_prodigy",
            "Schedule-Free Prodigy, lr 1, betas .9/.995516, d0 1e-6, r .75, 5 % warm-up",
            "decoupled .0812 x d at y, all parameters, as schedule_free_adamw",
            schedule_free_prodigy,
        ),
        Method(
            "prodigy",
            "Prodigy, lr 1, betas .9/.999, d0 1e-6, cosine",
            "none, the paper's default",
            prodigy,
        ),
        Method(
            "dadapt_adam",
            "D-Adapt Adam, lr 1, betas .9/.999, d0 1e-6, cosine",
            "none, the paper's default",
            dadapt_adam,
        ),
    )
}
