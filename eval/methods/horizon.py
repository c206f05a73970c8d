"""How long a published schedule lasts in steps of ours."""

from torch.optim import Optimizer

from selftune import schedules

# The geometric mean of step_hint over AlgoPerf v0.6's eight workloads.
MEAN_STEP_HINT = 57_270


def algoperf_steps(num_steps: int) -> int:
    """AlgoPerf's `step_hint`, where `num_steps` is ours.

    AlgoPerf's targets were reached by runs that decay over 3/4 of its step_hint; ours are what
    the best run of a search reaches in all of our step_hint. What a submission decays over its
    step_hint therefore decays over 4/3 of ours.
    """
    return max(1, round(4 / 3 * num_steps))


def cosine(
    optimizer: Optimizer, num_steps: int, warmup: float, share: float = 1.0
) -> schedules.ScheduleLR:
    """A linear warm-up and a cosine to zero over `share` of AlgoPerf's step_hint.

    warmup: a fraction of these steps. Of n steps the first has 1 / (n + 1) of the peak; in the
    submissions it has nothing.
    """
    steps = max(1, round(share * algoperf_steps(num_steps)))
    schedule = schedules.cosine(steps).with_warmup(round(warmup * steps))
    return schedules.ScheduleLR(optimizer, schedule)
