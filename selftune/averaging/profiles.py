"""Profiles: which iterates an average contains, and with what weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

import numpy as np

from selftune.plain_numbers import plain_number
from selftune.tensor_list import TensorList

Length = int | float  # an int: optimizer steps; a float: a fraction of the run


@dataclass(frozen=True)
class Moment:
    """The time at which weights are folded into an average, counted from the profile's start."""

    step: int
    previous: int  # the step of the previous fold; 0 at the first
    folds: int  # number of previous folds


@dataclass(frozen=True)
class Profile(ABC):
    """Base class of profiles, which say what to average; `WeightAverage` does it.

    every: steps between two folds. The weights at a fold stand for all steps since the last one.
    start: number of steps at the beginning that are left out.
    Lengths are ints, in steps, or floats in (0, 1], fractions of the run.
    """

    every: Length = field(default=1, kw_only=True)
    start: Length = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        for f in fields(self):
            if isinstance(value := getattr(self, f.name), Real):
                object.__setattr__(self, f.name, plain_number(value))
        for name in self.lengths():
            _check_length(type(self).__name__, name, getattr(self, name))
        self.check()

    def check(self) -> None:  # noqa: B027
        """Raise ValueError for an option out of its range."""

    def lengths(self) -> tuple[str, ...]:
        """The names of the options that are lengths."""
        return ("every", "start")

    def means(self) -> tuple[str, ...]:
        """Names of the means kept for each tensor, in float32 or wider; "mean" is the average."""
        return ("mean",)

    def snapshots(self) -> tuple[str, ...]:
        """Names of the past weights kept for each tensor, in its own dtype."""
        return ()

    @abstractmethod
    def fold(self, kept: dict[str, TensorList], weights: TensorList, at: Moment) -> None:
        """Fold the weights into the average."""

    def in_steps(self, total_steps: int | None) -> Profile:
        """The same profile with all lengths in steps, for a run of `total_steps`.

        Raises ValueError if a length needs `total_steps`, or if no weights would be folded in.
        """
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        lengths = {name: getattr(self, name) for name in self.lengths()}
        for name, length in lengths.items():
            if not isinstance(length, float):
                continue
            if total_steps is None:
                raise ValueError(
                    f"{name}={length} of {type(self).__name__} is a fraction of the run: "
                    "give total_steps, or an int of steps"
                )
            lengths[name] = max(int(length > 0), round(length * total_steps))
        profile = replace(self, **lengths)
        first = profile.start + profile.every
        if total_steps is not None and first > total_steps:
            raise ValueError(
                f"{type(self).__name__} would first take weights after step {first}, but the run "
                f"ends after {total_steps}: lower start or every"
            )
        return profile

    def describe(self) -> dict[str, Any]:
        """The profile's options as a dict, to be saved and compared."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": type(self).__name__, **options}


class Weighted(Profile):
    """A profile with a weight for each step; kept as one running mean, 1 word per parameter."""

    @abstractmethod
    def retained(self, previous: int, step: int) -> float:
        """The sum of the weights of all steps up to `previous`, over that up to `step`.

        These ratios are multiplicative: retained(r, s) retained(s, t) = retained(r, t). So for any
        `every`, a fold counts with the sum of the weights of all steps since the previous fold.
        """

    def fold(self, kept: dict[str, TensorList], weights: TensorList, at: Moment) -> None:
        kept["mean"].lerp_(weights, 1 - self.retained(at.previous, at.step))


@dataclass(frozen=True)
class EMA(Weighted):
    """Exponential moving average, debiased: its weights add up to 1 from the first step on.

    half_life: the number of steps after which the weight of an iterate has halved.
    horizon: alternatively, the length of the uniform window with the same mean age and the same
        sum of squared weights; the decay per step is (horizon - 1) / (horizon + 1).
    The default is a horizon of 0.01, 1 % of the run: the length that did best in
    Ajroldi et al., When, Where and Why to Average Weights?, 2025. https://arxiv.org/abs/2502.06761
    """

    half_life: Length | None = None
    horizon: Length | None = None

    def __new__(cls, *_: Any, **options: Any) -> EMA:
        if "decay" in options:
            raise ValueError(f"EMA takes a length and no decay: {_for_decay(options['decay'])}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in ("half_life", "horizon"):
            if isinstance(length := getattr(self, name), float) and 0.9 <= length < 1:
                raise ValueError(
                    f"{name}={length} of EMA would be {length:.4g} of the whole run, and looks "
                    f"like a decay: {_for_decay(length)}; for a long window give steps, or 1.0"
                )
        if self.half_life is not None and self.horizon is not None:
            raise ValueError(
                f"EMA takes half_life or horizon, got both: {self.half_life} and {self.horizon}"
            )
        if self.half_life is None and self.horizon is None:
            object.__setattr__(self, "horizon", 0.01)
        super().__post_init__()

    def lengths(self) -> tuple[str, ...]:
        return ("every", "start", "half_life" if self.horizon is None else "horizon")

    def retained(self, previous: int, step: int) -> float:
        if self.horizon is None:
            assert self.half_life is not None
            rate = math.log(2) / self.half_life
        elif self.horizon <= 1:
            return 0.0  # a window of one step is just the last iterate
        else:
            rate = math.log((self.horizon + 1) / (self.horizon - 1))
        # sum of b^(step - i) over i = 1, ..., previous, divided by the same sum up to step
        decay = math.exp(-rate * (step - previous))
        return decay * math.expm1(-rate * previous) / math.expm1(-rate * step)


@dataclass(frozen=True)
class Polyak(Weighted):
    """The uniform mean of all iterates.

    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    """

    def retained(self, previous: int, step: int) -> float:
        return previous / step


@dataclass(frozen=True)
class Tail(Weighted):
    """The uniform mean of the iterates after `start`, by default the second half of the run.

    Rakhlin et al., Making Gradient Descent Optimal for Strongly Convex Stochastic Optimization,
    2012 (suffix averaging). https://arxiv.org/abs/1109.5647
    """

    start: Length = field(default=0.5, kw_only=True)

    def retained(self, previous: int, step: int) -> float:
        return previous / step


@dataclass(frozen=True)
class Polynomial(Weighted):
    """Weights of about t^power for step t, which forget the beginning in runs of any length.

    Shamir and Zhang, Stochastic Gradient Descent for Non-smooth Optimization, 2013.
    https://arxiv.org/abs/1212.1824
    Here the weights are t^(power + 1) - (t - 1)^(power + 1), whose sum over the steps between two
    folds has a closed form. They agree with the paper's for large t.
    """

    power: float

    def check(self) -> None:
        if not 0 <= self.power < math.inf:
            raise ValueError(f"power must lie in [0, inf) for Polynomial, got {self.power}")

    def retained(self, previous: int, step: int) -> float:
        return (previous / step) ** (self.power + 1)


@dataclass(frozen=True)
class PowerEMA(Weighted):
    """The power-function EMA of EDM2, whose width is a fraction of the run so far.

    Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models, 2024,
    section 3. https://arxiv.org/abs/2312.02696
    sigma_rel: the width: the standard deviation of t under the weights t^gamma, over the present
        t. The mean of t under them is (gamma + 1) / (gamma + 2) of the present t.
    From snapshots of two widths, averages of other widths can be made later: see `SnapshotStore`.
    """

    sigma_rel: float = 0.1

    def check(self) -> None:
        if not 0 < self.sigma_rel <= 12**-0.5:
            raise ValueError(
                "sigma_rel must lie in (0, 0.2886], from one iterate to the mean of all, "
                f"got {self.sigma_rel}"
            )

    @property
    def gamma(self) -> float:
        # sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))
        over = self.sigma_rel**-2
        return max(0.0, float(np.roots([1, 7, 16 - over, 12 - over]).real.max()))

    def retained(self, previous: int, step: int) -> float:
        return (previous / step) ** (self.gamma + 1)


def _for_decay(decay: Any) -> str:
    if not isinstance(decay, float) or not 0 < decay < 1:
        return "give half_life or horizon, in steps or as a fraction of the run"
    steps = round((1 + decay) / (1 - decay))
    return f"write EMA(horizon={steps}) for a decay of {decay} per step"


def _check_length(profile: str, name: str, length: Length) -> None:
    least = 0 if name == "start" else 1
    if isinstance(length, float):
        valid = 0 <= length <= 1 and (length > 0 or not least)
    else:
        valid = isinstance(length, int) and length >= least
    if not valid:
        raise ValueError(
            f"{name} of {profile} must be an int of steps, at least {least}, or a float in "
            f"(0, 1], a fraction of the run; got {length}"
        )
