"""Schedule: an immutable function of the step that multiplies the peak learning rate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from selftune.plain_numbers import plain_number
from selftune.schedules.bound import Bound, Norms, convex_bound
from selftune.schedules.form import Beginning, Form, Product, Sequence, Warmup
from selftune.schedules.form_json import form_from_dict, form_to_dict
from selftune.schedules.shapes import Constant, Trapezoid

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _Unwritable:
    """Base class without slots, which gives its subclasses an empty `__dict__` beside their slots.

    `LambdaLR` saves the `__dict__` of a callable and restores it on resume: an empty one means
    that a resumed run takes the given schedule, and that the frozen fields are not overwritten.
    """


@dataclass(frozen=True, slots=True)
class Schedule(_Unwritable):
    """Multipliers of the peak learning rate at the steps 0 to total_steps - 1 of a run.

    A schedule is called with a step and returns the multiplier; pass it to `ScheduleLR`, or to
    torch's `LambdaLR`. After the last step the multiplier stays as it is (torch's cosine would
    rise again). Schedules compare and hash by value.

    total_steps: None for a schedule without an end, such as `inverse_sqrt(100)`.
    """

    form: Form
    total_steps: int | None

    def __post_init__(self) -> None:
        total = self.total_steps
        if total is None:
            if self.form.needs_total:
                raise ValueError(f"{self.form} needs an end: give total_steps")
            return
        total = plain_number(total)
        if not isinstance(total, int) or total < 1:
            raise ValueError(f"total_steps must be a whole number of 1 or more, got {total!r}")
        self.form.check(total)
        object.__setattr__(self, "total_steps", total)

    def __call__(self, step: int) -> float:
        if step < 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        if self.total_steps is not None:
            step = min(step, self.total_steps)
        return self.form.at(step, self.total_steps)

    def factors(self) -> np.ndarray:
        """The multipliers of all steps: shape (total_steps,), float64."""
        return np.array([self(step) for step in range(self.length())])

    # -- other schedules from this one --------------------------------------------------------

    def resample(self, total_steps: int) -> Schedule:
        """The same schedule over another number of steps.

        Lengths given as fractions of the run scale with it; lengths given in steps do not.
        """
        return Schedule(self.form, total_steps)

    def with_warmup(self, length: int | float, start: float = 0.0) -> Schedule:
        """This schedule after a linear warm-up, which replaces an earlier warm-up.

        total_steps stays the same and includes the warm-up.
        length: steps (int), or a fraction of the run (float).
        """
        form = self.form.form if isinstance(self.form, Warmup) else self.form
        return Schedule(Warmup(form, plain_number(length), start), self.total_steps)

    def with_cooldown(
        self,
        length: int | float,
        shape: Literal["linear", "1-sqrt", "cosine"] = "linear",
        end: float = 0.0,
    ) -> Schedule:
        """This schedule multiplied by a cooldown at its end, see `wsd`.

        length: steps (int), or a fraction of the run (float).
        """
        return self * Schedule(Trapezoid(plain_number(length), shape, end), self.length())

    def then(self, other: Schedule) -> Schedule:
        """This schedule followed by another; `resample` keeps the fraction that each takes."""
        mine, others = self.length(), other.length()
        total = mine + others
        return Schedule(Sequence(self.form, other.form, mine / total), total)

    def cut(self, step: int) -> Schedule:
        """The first `step` steps of this schedule."""
        total = self.length()
        if not 0 < step <= total:
            raise ValueError(f"step must lie in [1, total_steps={total}], got {step}")
        return Schedule(Beginning(self.form, step / total), step)

    def __mul__(self, other: Schedule | float) -> Schedule:
        """The product with a number, or, step by step, with a schedule over as many steps."""
        if not isinstance(other, Schedule):
            return Schedule(Product(self.form, Constant(float(other))), self.total_steps)
        totals = {self.total_steps, other.total_steps} - {None}
        if len(totals) > 1:
            raise ValueError(
                f"cannot multiply schedules over {self.total_steps} and {other.total_steps} "
                "steps; resample one of them"
            )
        return Schedule(Product(self.form, other.form), totals.pop() if totals else None)

    __rmul__ = __mul__

    # -- what is known of it ------------------------------------------------------------------

    @property
    def warmup_steps(self) -> int:
        """The number of steps of linear warm-up."""
        return self.form.warmup_steps(self.total_steps)

    def bound(self, gradient_norms: Norms = 1.0, distance: float = 1.0) -> Bound:
        """The convex bound on the final loss of a run with this schedule, see `Bound`.

        gradient_norms: one number, or norms at equal distances over the run.
        distance: from the initial weights to a solution.
        """
        return convex_bound(self.factors(), gradient_norms, distance)

    def plot(self, *others: Schedule, labels: tuple[str, ...] = (), ax: Axes | None = None) -> Axes:
        """Plot this schedule and others over the fraction of the run. Needs matplotlib."""
        from selftune.schedules.plot import plot_schedules

        return plot_schedules((self, *others), labels, ax)

    # -- JSON ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        return {"total_steps": self.total_steps, "form": form_to_dict(self.form)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Schedule:
        """The inverse of `to_dict`. Raises ValueError for anything else."""
        if not isinstance(data, dict) or set(data) != {"total_steps", "form"}:
            raise ValueError(f"not a schedule: expected total_steps and form, got {_short(data)}")
        try:
            return Schedule(form_from_dict(data["form"]), data["total_steps"])
        except (TypeError, OverflowError) as error:
            raise ValueError(f"not a schedule: {error}: {_short(data)}") from None

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @staticmethod
    def from_json(text: str) -> Schedule:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a schedule: not JSON ({error}): {_short(text)}") from None
        return Schedule.from_dict(data)

    def length(self) -> int:
        """`total_steps`; raises ValueError for a schedule without an end."""
        if self.total_steps is None:
            raise ValueError(f"{self.form} has no end here: call resample(total_steps) first")
        return self.total_steps


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
