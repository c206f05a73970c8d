"""Schedule-Free AdamW and Schedule-Free Prodigy: an average in place of a schedule."""

from torch import nn

from selftune import optim, schedules

from .method import Built, Method

# The point of AlgoPerf v0.5's self-tuning winner, but for its learning rate and warm-up.
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
