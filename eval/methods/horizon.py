"""How long a published schedule lasts in steps of ours."""

from torch.optim import Optimizer

from selftune import schedules


def algoperf_steps(num_steps: int) -> int:
    """AlgoPerf's `step_hint`, where `num_steps` is ours.

    AlgoPerf's targets were reached by runs that decay over 3/4 of its step_hint; ours are what
    the best run of a search reaches in all of our step_hint. What a submission decays over its
    step_hint therefore decays over 4/3 of ours.
    """
    return round(4 / 3 * num_steps)


def cosine(optimizer: Optimizer, num_steps: int, warmup: float) -> schedules.ScheduleLR:
    """A linear warm-up and a cosine to zero, over AlgoPerf's step_hint; warmup: a fraction of it.

    The first of n steps of warm-up has 1 / (n + 1) of the peak; in the submissions it has nothing.
    """
    steps = algoperf_steps(num_steps)
    schedule = schedules.cosine(steps).with_warmup(round(warmup * steps))
    return schedules.ScheduleLR(optimizer, schedule)
