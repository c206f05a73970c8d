"""Forms of the named schedules, as functions of the fraction s of the run or of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from selftune.schedules.form import (
    Form,
    Shape,
    require_length,
    require_multiplier,
    require_room,
    steps_of,
)

# The multiplier after a fraction u of a cooldown from 1 to 0.
COOLDOWNS: dict[str, Callable[[float], float]] = {
    "linear": lambda u: 1 - u,
    "1-sqrt": lambda u: 1 - math.sqrt(u),
    "cosine": lambda u: (1 + math.cos(math.pi * u)) / 2,
}


@dataclass(frozen=True)
class Constant(Form):
    value: float

    def __post_init__(self) -> None:
        require_multiplier(self.value, "a multiplier")

    @property
    def needs_total(self) -> bool:
        return False

    def at(self, step: int, total_steps: int | None) -> float:
        return self.value


@dataclass(frozen=True)
class InverseSqrt(Form):
    timescale: float

    def __post_init__(self) -> None:
        require_positive(self.timescale, "timescale")

    @property
    def needs_total(self) -> bool:
        return False

    def at(self, step: int, total_steps: int | None) -> float:
        return math.sqrt(self.timescale / (self.timescale + step))


@dataclass(frozen=True)
class Power(Form):
    hold: float
    exponent: float

    def __post_init__(self) -> None:
        require_positive(self.hold, "hold_steps")
        require_positive(self.exponent, "exponent")

    @property
    def needs_total(self) -> bool:
        return False

    def at(self, step: int, total_steps: int | None) -> float:
        return min(1.0, ((step + 1) / self.hold) ** -self.exponent)


@dataclass(frozen=True)
class Linear(Shape):
    end: float

    def __post_init__(self) -> None:
        require_end(self.end)

    def shape(self, s: float) -> float:
        return above(self.end, 1 - s)


@dataclass(frozen=True)
class Cosine(Shape):
    end: float

    def __post_init__(self) -> None:
        require_end(self.end)

    def shape(self, s: float) -> float:
        return above(self.end, (1 + math.cos(math.pi * s)) / 2)


@dataclass(frozen=True)
class Polynomial(Shape):
    power: float
    end: float

    def __post_init__(self) -> None:
        require_positive(self.power, "power")
        require_end(self.end)

    def shape(self, s: float) -> float:
        return above(self.end, (1 - s) ** self.power)


@dataclass(frozen=True)
class Rex(Shape):
    beta: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta must lie in [0, 1), got {self.beta}")
        require_end(self.end)

    def shape(self, s: float) -> float:
        return above(self.end, (1 - s) / (1 - self.beta * s))


@dataclass(frozen=True)
class Trapezoid(Form):
    cooldown: int | float
    shape: str
    end: float

    def __post_init__(self) -> None:
        require_length(self.cooldown, "the length of a cooldown")
        require_end(self.end)
        if self.shape not in COOLDOWNS:
            raise ValueError(f"a cooldown is one of {', '.join(COOLDOWNS)}, got {self.shape!r}")

    @property
    def needs_total(self) -> bool:
        return True

    def at(self, step: int, total_steps: int | None) -> float:
        assert total_steps is not None, "a cooldown has an end"
        length = steps_of(self.cooldown, total_steps)
        begin = total_steps - length
        if step < begin or not length:
            return 1.0
        return above(self.end, COOLDOWNS[self.shape]((step - begin) / length))

    def check(self, total_steps: int) -> None:
        require_room(self.cooldown, "the length of a cooldown", total_steps)


@dataclass(frozen=True)
class OneCycle(Shape):
    rise: float
    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1:
            raise ValueError(f"rise must lie in (0, 1), got {self.rise}")
        require_multiplier(self.start, "start")
        require_end(self.end)

    def shape(self, s: float) -> float:
        if s < self.rise:
            return above(self.start, (1 - math.cos(math.pi * s / self.rise)) / 2)
        u = (s - self.rise) / (1 - self.rise)
        return above(self.end, (1 + math.cos(math.pi * u)) / 2)


@dataclass(frozen=True)
class Steps(Shape):
    drops: tuple[tuple[float, float], ...]  # (fraction of the run, factor), in order

    def __post_init__(self) -> None:
        for s, factor in self.drops:
            if not 0 <= s <= 1:
                raise ValueError(f"drops lie at fractions of the run in [0, 1], got {s}")
            require_multiplier(factor, "the factor of a drop")

    def shape(self, s: float) -> float:
        return math.prod(factor for at, factor in self.drops if s >= at)


def above(end: float, height: float) -> float:
    """Rescale a height in [0, 1] to [end, 1]."""
    return end + (1 - end) * height


def require_end(end: float) -> None:
    if not 0 <= end <= 1:
        raise ValueError(f"end is a fraction of the peak in [0, 1], got {end}")


def require_positive(value: float, name: str) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
