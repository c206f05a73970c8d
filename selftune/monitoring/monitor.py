"""Monitor: step hooks that measure an optimizer every few steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer

from selftune.monitoring import measurements
from selftune.monitoring.destinations import Row, destination
from selftune.step_hooks import innermost_optimizer, skipped_steps, steps_made

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Monitor:
    """Step hooks that measure an optimizer every `every` steps.

        monitor = Monitor(optimizer, to="optimizer.csv", every=50)
        train(...)
        monitor.plot().savefig("optimizer.png")

    to: a function that is called with each row, the path of a CSV file, which only rank 0 writes, a
        TensorBoard SummaryWriter, or a Weights & Biases run. With None, rows are only kept in
        `rows`.
    every: number of steps between two measurements, in which the host does not wait for the device.
    made: number of earlier calls of `step`, if a run is resumed with an optimizer that does not
        count its steps: torch's SGD, DoG, DoWG, LDoG, DAdaptSGD, DAdaptAdaGrad.

    A row is a dict of floats under the following names. Unknown numbers are nan; numbers that a
    method does not have are left out.

        step                    calls of `step`, those before a checkpoint included
        step_size               effective step size, as `optimizer.step_size()`; of several groups
                                `step_size/0`, `step_size/1`, ...
        d                       of Prodigy, D-Adaptation and similar methods
        gradient_norm           L2 norm over all parameters, as the optimizer sees it: clipped
        update_ratio            ||change of the parameters in this step|| / ||parameters||
        skipped_steps           number of steps skipped so far, as a gradient was not finite
        distance_from_average   ||y - x|| / ||x||, of methods with evaluation weights x

    Training is not changed. A measurement holds copies of the parameters while it lasts. It works
    with any torch optimizer, also inside the wrappers of accelerate and others. With `fully_shard`
    every rank needs a monitor, as norms are computed over all ranks.

    Raises ValueError for anything but an optimizer, `every` below 1, `made` below 0, and any other
    kind of `to`.
    """

    def __init__(self, optimizer: Any, to: Any = None, every: int = 100, made: int = 0) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 or more, got {every}")
        if made < 0:
            raise ValueError(f"made must be 0 or more, got {made}")
        optimizer = innermost_optimizer(optimizer)  # not kept, as the monitor may outlive it
        self._every, self._made = every, made
        self._send = destination(to)
        # Calls of `step` so far; None before the first, as a checkpoint may be loaded until then.
        self._step: int | None = None
        self._before: list[Tensor] | None = None
        self.rows: list[Row] = []
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        _rows[optimizer] = self.rows

    def plot(self) -> Figure:
        """A matplotlib figure of all rows so far. Raises ImportError without matplotlib."""
        from selftune.monitoring.picture import picture

        return picture(self.rows)

    def close(self) -> None:
        """Remove the hooks; the rows stay."""
        for hook in self._hooks:
            hook.remove()
        self._before = None  # left if the last step raised

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @torch.compiler.disable()
    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._step is None:
            counted = steps_made(optimizer)
            self._step = self._made if counted is None else counted + skipped_steps(optimizer)
        self._before = None
        if (self._step + 1) % self._every == 0:
            self._before = measurements.training_weights(optimizer)

    @torch.compiler.disable()
    @torch.no_grad()
    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        assert self._step is not None
        self._step += 1
        if self._step % self._every:
            return
        if hasattr(optimizer, "settle"):  # wait until it is known whether this step was skipped
            optimizer.settle()
        before, self._before = self._before, None
        update = None
        if before is not None:
            now = [p.detach() for p in measurements.parameters(optimizer)]
            update = measurements.relative_distance(now, before)
        average = measurements.distance_from_average(optimizer)
        norms = measurements.read(
            {
                "gradient_norm": measurements.gradient_norm(optimizer),
                "update_ratio": update,
                **({} if average is None else {"distance_from_average": average}),
            }
        )
        sizes, d = measurements.step_sizes(optimizer), measurements.learnt_distance(optimizer)
        several = len(sizes) > 1
        row = {
            "step": float(self._step),
            **{f"step_size/{i}" if several else "step_size": s for i, s in enumerate(sizes)},
            **({} if d is None else {"d": d}),
            **norms,
            "skipped_steps": float(skipped_steps(optimizer)),
        }
        self.rows.append(row)
        self._send(row)


# The rows of each optimizer's newest monitor, and not the monitor, which would keep its optimizer.
_rows: WeakKeyDictionary[Optimizer, list[Row]] = WeakKeyDictionary()


def rows_of(optimizer: Optimizer) -> list[Row]:
    """The rows of an optimizer's newest monitor; none without a monitor."""
    return _rows.get(optimizer, [])


def steps_seen(optimizer: Optimizer) -> int | None:
    """The number of steps, from the optimizer's state or from a monitor; None if neither counts."""
    counted, rows = steps_made(optimizer), rows_of(optimizer)
    if counted is None and rows:
        return round(rows[-1]["step"] - rows[-1]["skipped_steps"])
    return counted
