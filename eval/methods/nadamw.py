"""NAdamW, AlgoPerf's baseline, with the settings of its submissions.

Four of the submissions are methods with further options, which their best points leave as in
NAdamW. Sources: mlcommons/submissions_algorithms, branch a100_scoring.
"""

from torch import nn

from selftune import optim, schedules

from . import horizon
from .method import Built, Method


def nadamw(model: nn.Module, num_steps: int) -> Built:
    """AlgoPerf v0.5's self-tuning baseline; NAdamW's defaults are its calibrated settings."""
    optimizer = optim.NAdamW(model.parameters())
    schedule = schedules.cosine(num_steps).with_warmup(round(0.02 * num_steps))
    return optimizer, schedules.ScheduleLR(optimizer, schedule), None


def nadamw_pocket(model: nn.Module, num_steps: int) -> Built:
    """The baseline calibrated at this scale: the best mean rank over the searches for targets.

    `eval.targets.calibration` finds it. Its schedule is 4/3 as long as in the searches, just as
    AlgoPerf's baselines decay over 4/3 of the steps of its target-setting runs.
    """
    optimizer = optim.NAdamW(
        model.parameters(), lr=0.00351666, betas=(0.878879, 0.982709), weight_decay=0.0112289
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.1), None


def nadamw_v05(model: nn.Module, num_steps: int) -> Built:
    """The settings of `nadamw` with a schedule over AlgoPerf's step_hint.

    previous_leaderboards/algoperf_v05/submissions/self_tuning/baseline: v0.5 score .8194;
    submissions/self_tuning/nadamw_baselinev05: .4506 on A100s. No deviations.
    """
    optimizer = optim.NAdamW(model.parameters())
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.02), None


def nadamw_2026(model: nn.Module, num_steps: int) -> Built:
    """submissions/self_tuning/nadamw: .3844 on A100s.

    Deviation: the workload's own dropout instead of none.
    """
    optimizer = optim.NAdamW(
        model.parameters(),
        lr=0.00190834618600756,
        betas=(1 - 0.09090652249, 0.998898321921855),
        weight_decay=0.08121616522670176,
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.1), None


def nadamw_resnet(model: nn.Module, num_steps: int) -> Built:
    """submissions/self_tuning/nadamw_resnet: .1857 on A100s.

    Deviation: the workload's own dropout instead of .1.
    """
    optimizer = optim.NAdamW(
        model.parameters(),
        lr=0.004126541534675243,
        betas=(1 - 0.00780309833, 0.9966054696718922),
        weight_decay=0.05371805022820654,
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.05), None


def generalized_adam(model: nn.Module, num_steps: int) -> Built:
    """The fourth of the five points of AlgoPerf v0.5's external submission generalized_adam.

    Together the five scored .6383; this one by itself reached the most targets in the published
    logs. The method can leave out Adam's denominator or Nesterov momentum; this point does not.
    Deviations: no label smoothing of .1; the workload's own dropout instead of .1.
    """
    optimizer = optim.NAdamW(
        model.parameters(),
        lr=0.0014271957958295392,
        betas=(0.9661952124707597, 0.9957304053273589),
        weight_decay=0.09153141484048229,
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.01), None


def nadamp(model: nn.Module, num_steps: int) -> Built:
    """The second of the five points of AlgoPerf v0.5's external submission nadamp.

    Together the five scored .5909; this one by itself reached the most targets in the published
    logs. The method allows other roots of the second moment; this point uses the square root.
    Deviations: no label smoothing of .2; the workload's own dropout instead of .1.
    """
    optimizer = optim.NAdamW(
        model.parameters(),
        lr=0.0013002412605362058,
        betas=(0.9603612866058248, 0.9778023204992619),
        weight_decay=0.16056758401092633,
    )
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.05), None


def cyclic_lr(model: nn.Module, num_steps: int) -> Built:
    """The second of the five points of AlgoPerf v0.5's external submission cyclic_lr.

    Together the five scored .6301; this one by itself reached the most targets in the published
    logs. Its cosine has one cycle; two of the other points have two.
    Deviations: the learning rate ends at 0 and not at 1e-10; the workload's own dropout instead
    of none.
    """
    optimizer = optim.NAdamW(
        model.parameters(),
        lr=0.001308209823469072,
        betas=(1 - 0.02686663061, 0.9981232922116359),
        weight_decay=0.16375311233774334,
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
PUBLISHED = (
    Method(
        "nadamw_v05",
        "NAdamW, lr .00174864, betas .9326607/.995516, cosine over 4/3 x after 2 % warm-up",
        "decoupled .0812 x lr, all parameters, as the submission",
        nadamw_v05,
    ),
    Method(
        "nadamw_2026",
        "NAdamW, lr .00190835, betas .9090935/.998898, cosine over 4/3 x after 10 % warm-up",
        "decoupled .0812 x lr, all parameters, as the submission",
        nadamw_2026,
    ),
    Method(
        "nadamw_resnet",
        "NAdamW, lr .00412654, betas .9921969/.996605, cosine over 4/3 x after 5 % warm-up",
        "decoupled .0537 x lr, all parameters, as the submission",
        nadamw_resnet,
    ),
    Method(
        "generalized_adam",
        "NAdamW, lr .0014272, betas .9661952/.99573, cosine over 4/3 x after 1 % warm-up",
        "decoupled .0915 x lr, all parameters, as the submission",
        generalized_adam,
    ),
    Method(
        "nadamp",
        "NAdamW, lr .00130024, betas .9603613/.977802, cosine over 4/3 x after 5 % warm-up",
        "decoupled .1606 x lr, all parameters, as the submission",
        nadamp,
    ),
    Method(
        "cyclic_lr",
        "NAdamW, lr .00130821, betas .9731334/.998123, one cosine over 4/3 x after 10 % warm-up",
        "decoupled .1638 x lr, all parameters, as the submission",
        cyclic_lr,
    ),
)
