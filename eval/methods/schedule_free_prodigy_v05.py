"""Schedule-Free Prodigy as submitted to AlgoPerf v0.5, with its faults."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from selftune import schedules

from . import horizon
from .method import Built, Method


class ScheduleFreeProdigyV05(Optimizer):
    """`selftune.optim.ScheduleFreeProdigy` with two faults of the submission.

    - Its step computes two gradients: one at x, which it discards, and one at y. Here each call
      of `step` has one gradient, so that only every second call updates the weights.
    - The second moment, s and the initial weights are in bfloat16. There s hardly decays: most
      of its entries, multiplied by sqrt(beta2), round to themselves.

    The parameters are at x before odd calls and at y before even ones. There is one group only.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        betas: tuple[float, float],
        weight_decay: float,
        r: float,
        d0: float,
    ) -> None:
        options = {"lr": 1.0, "betas": betas, "weight_decay": weight_decay, "r": r}
        memory = {"d": d0, "numerator": 0.0, "updates": 0, "weight_sum": 0.0, "at_y": False}
        super().__init__(params, {**options, **memory})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        (group,) = self.param_groups
        if group["at_y"]:
            self._to_x(group)
            self._update(group, [p for p in group["params"] if p.grad is not None])
        else:
            self._to_y(group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for state in self.state.values():  # torch has cast them to the type of the parameters
            for name in ("p0", "exp_avg_sq", "s"):
                state[name] = state[name].to(torch.bfloat16)

    def _update(self, group: dict[str, Any], moving: list[Tensor]) -> None:
        (_, beta2), d, lr = group["betas"], group["d"], group["lr"]
        d_lr = d * lr
        numerator, denominator = sqrt(beta2) * group["numerator"], 0.0
        for p in moving:
            state, gradient = self.state[p], p.grad
            assert gradient is not None
            numerator += d * d_lr * float((gradient * (state["p0"] - state["z"])).sum())
            state["exp_avg_sq"].mul_(beta2).add_(d * d * (1 - beta2) * gradient**2)
            state["s"].mul_(sqrt(beta2)).add_(d * d_lr * gradient)
            denominator += float(state["s"].abs().sum())
        if denominator == 0:
            return
        group["numerator"], group["d"] = numerator, max(d, numerator / denominator)
        d = group["d"]
        group["updates"] += 1
        weight = group["updates"] ** group["r"]
        group["weight_sum"] += weight
        for p in moving:
            z = self.state[p]["z"]
            root = self.state[p]["exp_avg_sq"].sqrt().add_(1e-8 * d)
            z.sub_(p, alpha=group["weight_decay"] * d_lr)
            z.addcdiv_(p.grad, root.to(p.dtype), value=-d * d_lr)
            p.lerp_(z, weight / group["weight_sum"])

    def _to_y(self, group: dict[str, Any]) -> None:
        for p in group["params"]:
            if not self.state[p]:
                low = p.to(torch.bfloat16, copy=True)
                zeros = torch.zeros_like(low)
                self.state[p].update(z=p.clone(), p0=low, exp_avg_sq=zeros, s=zeros.clone())
            p.lerp_(self.state[p]["z"], 1 - group["betas"][0])
        group["at_y"] = True

    def _to_x(self, group: dict[str, Any]) -> None:
        for p in group["params"]:
            p.lerp_(self.state[p]["z"], 1 - 1 / group["betas"][0])
        group["at_y"] = False

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """A context in which the parameters are at x; no step may be taken in it."""
        (group,) = self.param_groups
        if not group["at_y"]:
            yield
            return
        held = [p.detach().clone() for p in group["params"]]
        with torch.no_grad():
            self._to_x(group)
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(group["params"], held, strict=True):
                    p.copy_(value)
            group["at_y"] = True


def schedule_free_prodigy_v05(model: nn.Module, num_steps: int) -> Built:
    """mlcommons/submissions_algorithms, previous_leaderboards/algoperf_v05, schedule_free_prodigy.

    Its five points differ in weight decay and together scored 0 in the external ruleset; .003 by
    itself reached the most targets in the published logs.
    Deviations: no label smoothing of .2; BatchNorm statistics of the evaluation weights.
    """
    optimizer = ScheduleFreeProdigyV05(
        (p for p in model.parameters() if p.requires_grad),
        betas=(0.9, 0.9955),
        weight_decay=0.003,
        r=0.75,
        d0=1e-6,
    )
    warmup = 2 * round(0.075 * horizon.algoperf_steps(num_steps))  # calls, two per update
    schedule = schedules.constant(2 * horizon.algoperf_steps(num_steps)).with_warmup(warmup)
    return optimizer, schedules.ScheduleLR(optimizer, schedule), optimizer.evaluation_weights


PUBLISHED = (
    Method(
        "schedule_free_prodigy_v05",
        "Schedule-Free Prodigy of AlgoPerf v0.5: every second gradient thrown away, state in "
        "bfloat16; betas .9/.9955, d0 1e-6, r .75, warm-up over 20 % x",
        "decoupled .003 x d at x, all parameters, as the submission",
        schedule_free_prodigy_v05,
    ),
)
