"""A schedule: a frozen function of the step whose value multiplies the peak learning rate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from selftune.plain_numbers import exact
from selftune.schedules.bound import Bound, Norms, convex_bound
from selftune.schedules.form import Beginning, Form, Product, Sequence, Warmup
from selftune.schedules.form_json import form_from_dict, form_to_dict
from selftune.schedules.shapes import Constant, Trapezoid

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _Unwritable:
    """Gives its children a `__dict__` besides their slots, and leaves it empty.

    `LambdaLR` saves a callable's `__dict__`, and writes the saved one over it when it resumes.
    """


@dataclass(frozen=True, slots=True)
class Schedule(_Unwritable):
    """Multipliers of the peak learning rate at the steps 0 to total_steps - 1 of a run.

    Called with a step, it answers with the multiplier: `ScheduleLR` takes one, and so does
    torch's `LambdaLR`. After the last step the multiplier stays at what it has come to (torch's
    cosine would rise again). Equal schedules are equal, hash alike and have the same JSON.

    total_steps: None for one without an end, like `inverse_sqrt(100)`.
    """

    form: Form
    total_steps: int | None

    def __post_init__(self) -> None:
        total = self.total_steps
        if total is None:
            if self.form.needs_total:
                raise ValueError(f"{self.form} needs an end: give total_steps")
            return
        total = exact(total)
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
        """The multipliers of all steps of the run, float64."""
        return np.array([self(step) for step in range(self.length())])

    # -- other schedules from this one --------------------------------------------------------

    def resample(self, total_steps: int) -> Schedule:
        """The same over another number of steps.

        Fractions of the run stay fractions; lengths given in steps stay as they are.
        """
        return Schedule(self.form, total_steps)

    def with_warmup(self, length: int | float, start: float = 0.0) -> Schedule:
        """The same after a linear warm-up, within the same total; it replaces an earlier one.

        length: steps, or a fraction of the run.
        """
        form = self.form.form if isinstance(self.form, Warmup) else self.form
        return Schedule(Warmup(form, exact(length), start), self.total_steps)

    def with_cooldown(
        self,
        length: int | float,
        shape: Literal["linear", "1-sqrt", "cosine"] = "linear",
        end: float = 0.0,
    ) -> Schedule:
        """The same times a cooldown at its end, see `wsd`.

        length: steps, or a fraction of the run.
        """
        return self * Schedule(Trapezoid(exact(length), shape, end), self.length())

    def then(self, other: Schedule) -> Schedule:
        """This one, and after its end the other; resampled, both keep their shares."""
        mine, others = self.length(), other.length()
        total = mine + others
        return Schedule(Sequence(self.form, other.form, mine / total), total)

    def cut(self, step: int) -> Schedule:
        """Its first `step` steps."""
        total = self.length()
        if not 0 < step <= total:
            raise ValueError(f"step must lie in [1, total_steps={total}], got {step}")
        return Schedule(Beginning(self.form, step / total), step)

    def __mul__(self, other: Schedule | float) -> Schedule:
        """The product, step by step, with a schedule over as many steps or with a number."""
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
        """How many steps its linear warm-up takes; 0 where it has none."""
        return self.form.warmup_steps(self.total_steps)

    def bound(self, gradient_norms: Norms = 1.0, distance: float = 1.0) -> Bound:
        """The convex bound of a run with it, see `Bound`.

        gradient_norms: one number, or norms at equal distances over the run.
        distance: from the first weights to a solution.
        """
        return convex_bound(self.factors(), gradient_norms, distance)

    def plot(self, *others: Schedule, labels: tuple[str, ...] = (), ax: Axes | None = None) -> Axes:
        """Draw it, and others beside it, over the fraction of the run. Needs matplotlib."""
        from selftune.schedules.plot import plot_schedules

        return plot_schedules((self, *others), labels, ax)

    # -- JSON ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        return {"total_steps": self.total_steps, "form": form_to_dict(self.form)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Schedule:
        """The schedule that `to_dict` gave. Raises ValueError for anything else."""
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
        """The schedule that `to_json` gave. Raises ValueError for anything else."""
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
