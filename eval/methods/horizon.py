"""Conversion of published schedules from steps of AlgoPerf's runs to steps of our workloads."""

from torch import nn
from torch.optim import Optimizer

from selftune import schedules

from .method import Build, Built, Method

# The geometric mean of step_hint over AlgoPerf v0.6's eight workloads.
MEAN_STEP_HINT = 57_270


def algoperf_steps(num_steps: int) -> int:
    """The number of our steps that corresponds to AlgoPerf's `step_hint`.

    num_steps: our step_hint. The runs that set AlgoPerf's targets decay the learning rate over
    3/4 of its step_hint; the runs that set ours, over all of our step_hint. A decay over
    AlgoPerf's step_hint therefore becomes one over 4/3 of ours.
    """
    return max(1, round(4 / 3 * num_steps))


def cosine(
    optimizer: Optimizer, num_steps: int, warmup: float, share: float = 1.0
) -> schedules.ScheduleLR:
    """A linear warm-up and a cosine to zero over `share` of AlgoPerf's step_hint.

    warmup: a fraction of these steps. The first of n warm-up steps has 1 / (n + 1) of the peak;
    in the submissions it has 0.
    """
    steps = max(1, round(share * algoperf_steps(num_steps)))
    schedule = schedules.cosine(steps).with_warmup(round(warmup * steps))
    return schedules.ScheduleLR(optimizer, schedule)


class SameTotalDecay:
    """A build function that multiplies weight decay to match AlgoPerf's over a whole run.

    Over a run, a weight decay of w shrinks weights by w times the sum of the learning rates.
    AlgoPerf's runs are many times longer than ours; w is multiplied by as much.
    """

    def __init__(self, build: Build) -> None:
        self._build = build

    def __call__(self, model: nn.Module, num_steps: int) -> Built:
        optimizer, scheduler, weights = self._build(model, num_steps)
        for group in optimizer.param_groups:
            group["weight_decay"] *= MEAN_STEP_HINT / algoperf_steps(num_steps)
        return optimizer, scheduler, weights


def with_same_total_decay(method: Method) -> Method:
    """A copy of `method`, named *_total_decay, with AlgoPerf's weight decay over a whole run."""
    return Method(
        f"{method.name}_total_decay",
        f"{method.summary}; weight decay times {MEAN_STEP_HINT} / (4/3 x), AlgoPerf's steps / ours",
        f"{method.weight_decay}, times AlgoPerf's steps / ours",
        SameTotalDecay(method.build),
    )
