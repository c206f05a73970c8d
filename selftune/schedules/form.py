"""Forms: schedules as functions of the step and of the run's length, and their combinations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field


class Form(ABC):
    """A multiplier as a function of the step and of the number of steps in the run.

    Forms are frozen dataclasses of numbers and other forms, so that they compare and hash by
    value, and can be written as JSON.
    """

    @property
    @abstractmethod
    def needs_total(self) -> bool:
        """Whether the multiplier depends on the length of the run."""

    @abstractmethod
    def at(self, step: int, total_steps: int | None) -> float:
        """The multiplier at a step in [0, total_steps]; total_steps is None without an end."""

    def warmup_steps(self, total_steps: int | None) -> int:
        """The number of steps of linear warm-up."""
        return 0

    def check(self, total_steps: int) -> None:  # noqa: B027
        """Raise ValueError if the form does not fit into a run of this length."""


class Shape(Form):
    """A form that depends only on the fraction s of the run, in [0, 1]."""

    @abstractmethod
    def shape(self, s: float) -> float: ...

    @property
    def needs_total(self) -> bool:
        return True

    def at(self, step: int, total_steps: int | None) -> float:
        assert total_steps is not None, "a schedule without an end holds no shape"
        return self.shape(step / total_steps if total_steps else 1.0)


@dataclass(frozen=True)
class Warmup(Form):
    """A linear warm-up, followed by a form over the remaining steps.

    length: steps (int), or a fraction of the run (float).
    start: the multiplier before the first step. Step i takes the multiplier (i + 1) / (length + 1)
        of the way from start to the peak, so that no step is wasted at `start`.
    """

    form: Form
    length: int | float
    start: float

    def __post_init__(self) -> None:
        require_length(self.length, "the length of a warm-up")
        require_multiplier(self.start, "start")

    @property
    def needs_total(self) -> bool:
        return isinstance(self.length, float) or self.form.needs_total

    def at(self, step: int, total_steps: int | None) -> float:
        steps = steps_of(self.length, total_steps)
        rest = None if total_steps is None else total_steps - steps
        if step >= steps:
            return self.form.at(step - steps, rest)
        rung = self.start + (1 - self.start) * ((step + 1) / (steps + 1))
        return rung * self.form.at(0, max(1, rest) if rest is not None else None)

    def warmup_steps(self, total_steps: int | None) -> int:
        return steps_of(self.length, total_steps)

    def check(self, total_steps: int) -> None:
        require_room(self.length, "the length of a warm-up", total_steps)
        self.form.check(total_steps - steps_of(self.length, total_steps))


@dataclass(frozen=True)
class Product(Form):
    """The product of two forms."""

    one: Form
    other: Form

    @property
    def needs_total(self) -> bool:
        return self.one.needs_total or self.other.needs_total

    def at(self, step: int, total_steps: int | None) -> float:
        return self.one.at(step, total_steps) * self.other.at(step, total_steps)

    def warmup_steps(self, total_steps: int | None) -> int:
        return max(self.one.warmup_steps(total_steps), self.other.warmup_steps(total_steps))

    def check(self, total_steps: int) -> None:
        self.one.check(total_steps)
        self.other.check(total_steps)


@dataclass(frozen=True)
class Sequence(Form):
    """One form for a fraction `share` of the run, and then another."""

    first: Form
    second: Form
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"the share of a sequence must lie in [0, 1], got {self.share}")

    @property
    def needs_total(self) -> bool:
        return True

    def at(self, step: int, total_steps: int | None) -> float:
        assert total_steps is not None, "a sequence has an end"
        change = round(self.share * total_steps)
        if step < change:
            return self.first.at(step, change)
        return self.second.at(step - change, total_steps - change)

    def warmup_steps(self, total_steps: int | None) -> int:
        assert total_steps is not None, "a sequence has an end"
        return self.first.warmup_steps(round(self.share * total_steps))

    def check(self, total_steps: int) -> None:
        change = round(self.share * total_steps)
        self.first.check(change)
        self.second.check(total_steps - change)


@dataclass(frozen=True)
class Beginning(Form):
    """The first fraction `share` of another form."""

    form: Form
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of a beginning must lie in (0, 1], got {self.share}")

    @property
    def needs_total(self) -> bool:
        return True

    def at(self, step: int, total_steps: int | None) -> float:
        assert total_steps is not None, "a beginning has an end"
        return self.form.at(step, round(total_steps / self.share))

    def warmup_steps(self, total_steps: int | None) -> int:
        assert total_steps is not None, "a beginning has an end"
        return min(total_steps, self.form.warmup_steps(round(total_steps / self.share)))

    def check(self, total_steps: int) -> None:
        self.form.check(round(total_steps / self.share))


@dataclass(frozen=True)
class Table(Form):
    """Linear interpolation between multipliers at equal distances over the run.

    values: the first one belongs to the first step.
    end: the multiplier of the step after the last one.
    """

    values: tuple[float, ...] = field(repr=False)
    end: float

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a schedule needs at least one multiplier, got none")
        for value in (*self.values, self.end):
            require_multiplier(value, "a multiplier")

    @property
    def needs_total(self) -> bool:
        return True

    def at(self, step: int, total_steps: int | None) -> float:
        assert total_steps is not None, "a table has an end"
        size = len(self.values)
        place = step * size / total_steps if total_steps else size
        i = int(place)
        if i >= size:
            return self.end
        after = self.values[i + 1] if i + 1 < size else self.end
        return self.values[i] + (place - i) * (after - self.values[i])


def steps_of(length: int | float, total_steps: int | None) -> int:
    """A length in steps: an int as it is, a float as a fraction of the run."""
    if isinstance(length, int):
        return length
    assert total_steps is not None, "a fraction needs a run with an end"
    return round(length * total_steps)


def require_length(length: int | float, name: str) -> None:
    valid = length >= 0 if isinstance(length, int) else 0 <= length <= 1
    if not valid:
        raise ValueError(f"{name} is a number of steps or a fraction in [0.0, 1.0], got {length}")


def require_room(length: int | float, name: str, total_steps: int) -> None:
    if steps_of(length, total_steps) > total_steps:
        raise ValueError(
            f"{name} may be at most {total_steps} steps here, got {length}; "
            "shorten it or give a fraction of the run"
        )


def require_multiplier(value: float, name: str) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
