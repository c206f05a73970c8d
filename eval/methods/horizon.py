"""Conversion of published schedules, in steps of AlgoPerf's runs, to steps of our workloads."""

from torch import nn
from torch.optim import Optimizer

from selftune import schedules

from .method import Build, Built, Method

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


class SameTotalDecay:
    """A method with the weight decay of as many steps as AlgoPerf's runs have.

    A weight decay of w takes away w times the sum of the learning rates, over a run. AlgoPerf's
    runs are many times longer than ours; here w is as many times larger.
    """

    def __init__(self, build: Build) -> None:
        self._build = build

    def __call__(self, model: nn.Module, num_steps: int) -> Built:
        optimizer, scheduler, weights = self._build(model, num_steps)
        for group in optimizer.param_groups:
            group["weight_decay"] *= MEAN_STEP_HINT / algoperf_steps(num_steps)
        return optimizer, scheduler, weights


def with_same_total_decay(method: Method) -> Method:
    """`method`, called *_total_decay."""
    return Method(
        f"{method.name}_total_decay",
        f"{method.summary}; weight decay times {MEAN_STEP_HINT} / (4/3 x), AlgoPerf's steps / ours",
        f"{method.weight_decay}, times AlgoPerf's steps / ours",
        SameTotalDecay(method.build),
    )
