"""GradientNorms: step hooks that record gradient and weight norms for `refine`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from selftune.refinement.norm_log import NormLog
from selftune.refinement.norms import dot, norm
from selftune.step_hooks import StepHooks, innermost_optimizer, steps_made

FLUSH = 100  # records between two transfers to the host


class GradientNorms:
    """Step hooks that log gradient and weight norms under any optimizer, for `refine`.

        with GradientNorms(optimizer) as recorder:
            train(...)
        recorder.log.save("norms.csv")

    The hooks see the gradients as the optimizer does: clipped, and without the scale of a
    GradScaler. Steps that a GradScaler or the optimizer skips are neither recorded nor counted.
    Training is not changed. The host waits for the device once in 100 records, and before a step
    for the verdict on the last one, if that may have been skipped.

    update: also record <g, u>, where u is the update before its multiplication by lr. Refinement
        prefers it for any optimizer. It is measured from the step, which takes a copy of the
        parameters. If groups have different learning rates, lr is that of the first.
    every: number of steps between two records.
    capacity: the most records that are kept. When there are more, every second one is dropped, and
        from then on only every second one is recorded.
    log: the log of the run so far, if it is resumed. Its records of steps after the checkpoint are
        dropped, by the optimizer's own count at the first step. For optimizers that do not count
        steps, such as torch's SGD, pass `log.before(step)`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        update: bool = False,
        every: int = 1,
        capacity: int = 20_000,
        log: NormLog | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 or more, got {every}")
        if capacity < 2:
            raise ValueError(f"capacity must be 2 or more, got {capacity}")
        optimizer = innermost_optimizer(optimizer)
        self._facts = lambda: _facts(optimizer)
        self._joined = log is not None  # resumed from a log, and no step made since
        self._names = ("weight", "l2", "l1", *(("update",) if update else ()))
        self._every, self._capacity = every, capacity
        self._step = 0
        self._records: list[list[float]] = []  # step, lr, and the norms by name
        self._waiting: list[tuple[int, Any, Tensor]] = []
        self._measured: list[Tensor] = []  # norms of this step; empty if it is not recorded
        self._stepping: list[Tensor] = []  # the parameters that step
        self._before: list[Tensor] = []  # their values before the step
        self._stepped: tuple[Any, Tensor] | None = None  # lr and norms of the last step
        if log is not None:
            self._resume(log)
        # The order of registration matters: a step is first measured, then reported by
        # `_step_hooks`, and only then is the next step measured.
        after = optimizer.register_step_post_hook(self._after_step)
        self._step_hooks = StepHooks(optimizer, self._made)
        before = optimizer.register_step_pre_hook(self._before_step)
        self._handles = [after, self._step_hooks, before]

    @property
    def log(self) -> NormLog:
        """All records so far; waits for the device."""
        self._step_hooks.settle()
        self._flush()
        table = np.array(self._records).reshape(-1, 2 + len(self._names))
        weight_decay, name = self._facts()
        return NormLog(
            steps=table[:, 0].astype(np.int64),
            norms={name: table[:, 2 + i] for i, name in enumerate(self._names)},
            lrs=table[:, 1],
            weight_decay=weight_decay,
            optimizer=name,
            total_steps=self._step,
        )

    def close(self) -> None:
        """Remove the hooks; the log stays."""
        for handle in self._handles:
            handle.remove()
        facts = self._facts()
        self._facts = lambda: facts  # without the optimizer, as the log may outlive it
        self._measured, self._before, self._stepping = [], [], []

    def __enter__(self) -> GradientNorms:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._joined:
            self._joined = False
            self._cut(steps_made(optimizer))
        self._measured, self._before, self._stepped = [], [], None
        if self._step % self._every:
            return
        # If a closure computes the gradients within the step, they are measured after it.
        closure = args[1] if len(args) > 1 else kwargs.get("closure")  # args[0]: the optimizer
        params = [p for group in optimizer.param_groups for p in group["params"]]
        self._stepping = [p for p in params if closure is not None or p.grad is not None]
        if not self._stepping:
            return
        self._measured = [norm([p.detach() for p in self._stepping], 2)]
        if closure is None:
            self._measured += self._gradient_norms(optimizer)
        if "update" in self._names:
            self._before = [_moving(optimizer, p).clone() for p in self._stepping]

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._measured:
            return
        if len(self._measured) == 1:
            if not any(p.grad is not None for p in self._stepping):
                return
            self._measured += self._gradient_norms(optimizer)
        lr = optimizer.param_groups[0]["lr"]
        if "update" in self._names:
            moved = [
                (p.grad, before - _moving(optimizer, p))
                for p, before in zip(self._stepping, self._before, strict=True)
                if p.grad is not None
            ]
            self._measured.append(dot(*zip(*moved, strict=True)) / lr)
            self._before = []
        # A copy, as a scheduler writes into an lr that is a tensor.
        lr = lr.clone() if isinstance(lr, Tensor) else lr
        self._stepped = lr, torch.stack(self._measured)

    def _made(self) -> None:
        if self._stepped is not None:
            self._waiting.append((self._step, *self._stepped))
        self._step += 1
        if len(self._waiting) >= FLUSH:
            self._flush()

    def _gradient_norms(self, optimizer: Optimizer) -> list[Tensor]:
        grads = [p.grad for p in self._stepping if p.grad is not None]
        # Fused optimizers get scaled gradients from a GradScaler, and unscale them in the step.
        scale = getattr(optimizer, "grad_scale", None)
        norms = [norm(grads, 2), norm(grads, 1)]
        return norms if scale is None else [value / scale for value in norms]

    def _flush(self) -> None:
        if self._waiting:
            rows = torch.stack([row for _, _, row in self._waiting]).tolist()
            for (step, lr, _), row in zip(self._waiting, rows, strict=True):
                self._records.append([step, float(lr), *row])
            self._waiting = []
        while len(self._records) > self._capacity:
            # Records lie at multiples of `every`; keep those at multiples of 2 * every.
            self._every *= 2
            self._records = [record for record in self._records if record[0] % self._every == 0]

    def _resume(self, log: NormLog) -> None:
        if not isinstance(log, NormLog):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"log must be a NormLog, as NormLog.load(path) gives; got {log!r}")
        missing = [name for name in self._names if name not in log.norms]
        if missing or log.lrs is None:
            raise ValueError(f"the log to go on with has no {', '.join(missing) or 'lr'}")
        columns = [log.steps, log.lrs, *(log.norms[name] for name in self._names)]
        self._records = np.stack(columns, axis=1).tolist()
        self._step = log.total_steps
        self._every = max(self._every, round(log.spacing))

    def _cut(self, made: int | None) -> None:
        """Continue after `made` steps, and drop what was recorded later."""
        if made is not None and made < self._step:
            self._records = [record for record in self._records if record[0] < made]
            self._step = made


def _moving(optimizer: Optimizer, p: Tensor) -> Tensor:
    """The iterate that takes the optimizer's steps: z in Schedule-Free, else the parameter."""
    state = optimizer.state.get(p, {})
    return state.get("z", state.get("schedule_free_z", p)).detach()


def _facts(optimizer: Optimizer) -> tuple[float, str]:
    """The largest weight decay of all groups, and the optimizer's name."""
    decays = [group.get("weight_decay", 0.0) for group in optimizer.param_groups]
    return float(max(decays)), _name(optimizer)


def _name(optimizer: Optimizer) -> str:
    """The class's name, with that of a wrapped optimizer: ScheduleFree(SGD)."""
    name, base = type(optimizer).__name__, getattr(optimizer, "base", None)
    return f"{name}({_name(base)})" if isinstance(base, Optimizer) else name
