"""Schedule-Free AdamW and Schedule-Free Prodigy: averaging in place of a schedule.

Sources of the submissions: mlcommons/submissions_algorithms, branch a100_scoring.
"""

from torch import nn

from selftune import optim, schedules

from . import horizon
from .method import Built, Method

# The settings of AlgoPerf v0.5's self-tuning winner, except its learning rate and warm-up.
WINNER_BETAS, WINNER_WEIGHT_DECAY, WINNER_R = (0.9, 0.9955159689799007), 0.08121616522670176, 0.75


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
    """The settings of `schedule_free_adamw` with an estimated step size and a longer warm-up."""
    optimizer = optim.ScheduleFreeProdigy(
        model.parameters(),
        betas=WINNER_BETAS,
        weight_decay=WINNER_WEIGHT_DECAY,
        safeguard_warmup=True,
        r=WINNER_R,
    )
    schedule = schedules.constant(num_steps).with_warmup(round(0.05 * num_steps))
    return optimizer, schedules.ScheduleLR(optimizer, schedule), optimizer.evaluation_weights


def schedule_free_v1(model: nn.Module, num_steps: int) -> Built:
    """The submission that won v0.5: score .8542 there, .4669 on A100s.

    previous_leaderboards/algoperf_v05/submissions/self_tuning/schedule_free_adamw.
    Deviations: no label smoothing of .2; the workload's own dropout instead of .1; the second
    moment is kept in the parameters' precision and not in bfloat16; no restart from the initial
    weights with half the learning rate if evaluations show no progress, as methods do not see
    evaluations; batch sizes; BatchNorm statistics are those of the evaluation weights.
    """
    optimizer = optim.ScheduleFreeAdamW(
        model.parameters(),
        lr=0.0025,
        betas=WINNER_BETAS,
        weight_decay=WINNER_WEIGHT_DECAY,
        warmup_steps=round(0.015 * horizon.algoperf_steps(num_steps)),
        r=WINNER_R,
        decay_at="x",
    )
    return optimizer, None, optimizer.evaluation_weights


def schedule_free_v2(model: nn.Module, num_steps: int) -> Built:
    """The second version of the winner: AlgoPerf score .5679 on A100s.

    submissions/self_tuning/schedule_free_adamw_v2: weight decay at y, averaging weights that
    depend on the learning rate alone, BatchNorm statistics as here.
    Deviations: no label smoothing of .2; batch sizes.
    """
    optimizer = optim.ScheduleFreeAdamW(
        model.parameters(),
        lr=0.0025,
        betas=WINNER_BETAS,
        weight_decay=WINNER_WEIGHT_DECAY,
        warmup_steps=round(0.015 * horizon.algoperf_steps(num_steps)),
    )
    return optimizer, None, optimizer.evaluation_weights


SCHEDULE_FREE_ADAMW = Method(
    "schedule_free_adamw",
    "Schedule-Free AdamW, lr .0025, betas .9/.995516, r .75, 1.5 % warm-up, no decay of lr",
    "decoupled .0812 x lr at y, all parameters (AlgoPerf's winner took it at x)",
    schedule_free_adamw,
)
SCHEDULE_FREE_PRODIGY = Method(
    "schedule_free_prodigy",
    "Schedule-Free Prodigy, lr 1, betas .9/.995516, d0 1e-6, r .75, 5 % warm-up",
    "decoupled .0812 x d at y, all parameters, as schedule_free_adamw",
    schedule_free_prodigy,
)
PUBLISHED = (
    Method(
        "schedule_free_v1",
        "Schedule-Free AdamW, lr .0025, betas .9/.995516, r .75, 2 % warm-up, no decay of lr, as "
        "AlgoPerf's winner",
        "decoupled .0812 x lr at x, all parameters, as the submission",
        schedule_free_v1,
    ),
    Method(
        "schedule_free_v2",
        "Schedule-Free AdamW, lr .0025, betas .9/.995516, 2 % warm-up, no decay of lr, as its "
        "second version",
        "decoupled .0812 x lr at y, all parameters, as the submission",
        schedule_free_v2,
    ),
)
