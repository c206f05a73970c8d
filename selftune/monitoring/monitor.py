"""Monitor: the numbers of an optimizer, measured every few steps."""

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

    to: a function, which is given each row; a path, for a CSV file; a TensorBoard SummaryWriter;
        a Weights & Biases run. None: rows are only kept, in `rows`.
    every: steps between two measurements. Between them nothing waits for the device.
    made: calls of `step` before this run, when it is resumed with an optimizer that counts none
        itself: torch's SGD, DoG, DoWG, LDoG, DAdaptSGD, DAdaptAdaGrad.

    A row is a dict of floats, named as follows; what cannot be known is nan, and what a method does
    not have is left out.

        step                    calls of `step`, those before a checkpoint included
        step_size               effective step size, as `optimizer.step_size()`; of several groups
                                `step_size/0`, `step_size/1`, ...
        d                       of Prodigy, D-Adaptation and their kin
        gradient_norm           L2 over all parameters, as the optimizer sees it: after clipping
        update_ratio            ||change of the parameters in this step|| / ||parameters||
        skipped_steps           so far, because a gradient was not finite
        distance_from_average   ||y - x|| / ||x||, of methods judged at an average x

    Training is not changed. A measurement holds copies of the parameters while it lasts. Works with
    any torch optimizer, also within what accelerate and others put around it. Under `fully_shard`
    every rank needs a monitor, as norms are those of the whole.

    Raises ValueError for what is no optimizer, `every` below 1, `made` below 0, and another `to`.
    """

    def __init__(self, optimizer: Any, to: Any = None, every: int = 100, made: int = 0) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 or more, got {every}")
        if made < 0:
            raise ValueError(f"made must be 0 or more, got {made}")
        self._optimizer = innermost_optimizer(optimizer)
        self._every, self._made = every, made
        self._send = destination(to)
        self._step: int | None = None  # calls so far; None until the first, as a load may come
        self._before: list[Tensor] | None = None
        self.rows: list[Row] = []
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._before_step),
            self._optimizer.register_step_post_hook(self._after_step),
        ]
        _monitors[self._optimizer] = self

    def plot(self) -> Figure:
        """A figure of all rows so far. Raises ImportError without matplotlib."""
        from selftune.monitoring.picture import picture

        return picture(self.rows)

    def close(self) -> None:
        """Take the hooks off; the rows stay."""
        for hook in self._hooks:
            hook.remove()

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
        if hasattr(optimizer, "settle"):  # the verdict on whether this step was skipped
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


_monitors: WeakKeyDictionary[Optimizer, Monitor] = WeakKeyDictionary()


def rows_of(optimizer: Optimizer) -> list[Row]:
    """What the newest monitor of an optimizer has measured; nothing without one."""
    monitor = _monitors.get(optimizer)
    return monitor.rows if monitor is not None else []


def steps_seen(optimizer: Optimizer) -> int | None:
    """The steps made: as the optimizer counts them, or a monitor; None if nobody does."""
    counted, rows = steps_made(optimizer), rows_of(optimizer)
    if counted is None and rows:
        return round(rows[-1]["step"] - rows[-1]["skipped_steps"])
    return counted
