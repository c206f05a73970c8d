"""Named schedules: linear, cosine, WSD and others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, ParamSpec

from torch.optim import Optimizer

from selftune.plain_numbers import plain_number
from selftune.schedules.form import Table
from selftune.schedules.schedule import Schedule
from selftune.schedules.shapes import (
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    OneCycle,
    Polynomial,
    Power,
    Rex,
    Steps,
    Trapezoid,
)

Arguments = ParamSpec("Arguments")


def _of_steps(schedule: Callable[Arguments, Schedule]) -> Callable[Arguments, Schedule]:
    """Decorator: raise ValueError, with the remedy, if an optimizer is given instead of steps."""

    @functools.wraps(schedule)
    def of_steps(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Schedule:
        if any(isinstance(value, Optimizer) for value in (*args, *kwargs.values())):
            name = schedule.__name__
            raise ValueError(
                f"{name} takes numbers of steps, got an optimizer: "
                f"ScheduleLR(optimizer, {name}(...)) joins the two"
            )
        return schedule(*args, **kwargs)

    return of_steps


# In the docstrings, s is the fraction of the run so far. `end` is the multiplier at the end of the
# run.


@_of_steps
def constant(total_steps: int | None = None) -> Schedule:
    """No decay."""
    return Schedule(Constant(1.0), total_steps)


@_of_steps
def linear(total_steps: int, end: float = 0.0) -> Schedule:
    """Linear decay, 1 - s, which minimizes the convex bound for constant gradient norms.

    Defazio et al., Optimal Linear Decay Learning Rate Schedules and Further Refinements, 2023.
    https://arxiv.org/abs/2310.07831
    """
    return Schedule(Linear(end), total_steps)


@_of_steps
def cosine(total_steps: int, end: float = 0.0) -> Schedule:
    """Cosine decay, (1 + cos pi s) / 2.

    Loshchilov & Hutter, SGDR, 2016, without its restarts. https://arxiv.org/abs/1608.03983
    """
    return Schedule(Cosine(end), total_steps)


@_of_steps
def polynomial(total_steps: int, power: float, end: float = 0.0) -> Schedule:
    """Decay as (1 - s)^power."""
    return Schedule(Polynomial(power, end), total_steps)


@_of_steps
def rex(total_steps: int, beta: float = 0.5, end: float = 0.0) -> Schedule:
    """Decay as (1 - s) / (1 - beta s): above linear decay, and steeper at the end.

    Chen et al., REX: Revisiting Budgeted Training with an Improved Schedule, 2021, where beta
    is 1/2. https://arxiv.org/abs/2107.04197
    """
    return Schedule(Rex(beta, end), total_steps)


@_of_steps
def inverse_sqrt(timescale: float, total_steps: int | None = None) -> Schedule:
    """Decay as sqrt(timescale / (timescale + step)), for runs of any length.

    timescale: the step at which the multiplier is sqrt(1/2) = 0.71.
    """
    return Schedule(InverseSqrt(timescale), total_steps)


@_of_steps
def power(hold_steps: float, exponent: float, total_steps: int | None = None) -> Schedule:
    """The peak for `hold_steps`, then decay as (number of steps / hold_steps)^-exponent.

    The power law of Shen et al., Power Scheduler, 2024, capped at 1, for runs of any length.
    https://arxiv.org/abs/2408.13359
    """
    return Schedule(Power(hold_steps, exponent), total_steps)


@_of_steps
def wsd(
    total_steps: int,
    cooldown: int | float = 0.2,
    shape: Literal["linear", "1-sqrt", "cosine"] = "linear",
    end: float = 0.0,
) -> Schedule:
    """WSD (warm-up, stable, decay): the peak, then a cooldown; for the warm-up see `with_warmup`.

    Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations,
    2024, where "1-sqrt" did better than "linear". https://arxiv.org/abs/2405.18392

    cooldown: steps (int), or a fraction of the steps after the warm-up (float).
    shape: of the cooldown.
    """
    return Schedule(Trapezoid(plain_number(cooldown), shape, end), total_steps)


@_of_steps
def one_cycle(
    total_steps: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 25e4
) -> Schedule:
    """A cosine rise to the peak over a fraction of the run, then cosine decay.

    Smith & Topin, Super-Convergence, 2017. https://arxiv.org/abs/1708.07120
    Defaults are those of torch's OneCycleLR, which also cycles the momentum.
    """
    return Schedule(OneCycle(rise, start, end), total_steps)


@_of_steps
def step(total_steps: int, drops: Mapping[float, float]) -> Schedule:
    """Step decay. drops: fraction of the run -> factor, such as {0.5: 0.1, 0.75: 0.1}."""
    return Schedule(Steps(tuple(sorted(drops.items()))), total_steps)


@_of_steps
def from_factors(factors: Iterable[float], end: float | None = None) -> Schedule:
    """A given multiplier for each step; `resample` interpolates linearly between them.

    end: the multiplier after the last step; the last factor if None.
    """
    values = tuple(float(factor) for factor in factors)
    if not values:
        raise ValueError("factors must hold at least one multiplier, got none")
    return Schedule(Table(values, values[-1] if end is None else end), len(values))
