"""ScheduleLR: a schedule at work on an optimizer."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from selftune.schedules.schedule import Schedule

ON_MISMATCH = ("error", "given", "saved")


class ScheduleLR(LRScheduler):
    """Multiplies every group's learning rate by a schedule; call `step()` after the optimizer's.

    Groups keep their own peaks, also those added later. `state_dict` holds the schedule as plain
    numbers; on resume it is compared with the given one (torch's LambdaLR goes on with the saved
    numbers, silently).

    on_mismatch: what to do on resume when they differ: "error"; "given", to go on with the new
        one from the saved step; or "saved", to go back to the old one. The last two warn.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        last_epoch: int = -1,
        on_mismatch: str = "error",
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ValueError(
                "ScheduleLR takes the optimizer first: ScheduleLR(optimizer, schedule); "
                f"got a {type(optimizer).__name__}"
            )
        if not isinstance(schedule, Schedule):
            raise ValueError(
                "schedule must be one of selftune.schedules, such as cosine(total_steps), "
                f"got a {type(schedule).__name__}"
            )
        if on_mismatch not in ON_MISMATCH:
            raise ValueError(f"on_mismatch is one of {', '.join(ON_MISMATCH)}, got {on_mismatch!r}")
        self.schedule = schedule
        self.on_mismatch = on_mismatch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        groups = self.optimizer.param_groups
        for late in groups[len(self.base_lrs) :]:
            self.base_lrs.append(late.setdefault("initial_lr", late["lr"]))
        multiplier = self.schedule(self.last_epoch)
        return [base * multiplier for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        del state["on_mismatch"]
        return {**state, "schedule": self.schedule.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the saved scheduler was; load the optimizer before, which holds the lr.

        Raises ValueError, and leaves everything as it is, when the saved schedule is another
        one, unless `on_mismatch` says which of the two goes on.
        """
        if "schedule" not in state_dict:
            raise ValueError("no schedule in the saved state: it is not that of a ScheduleLR")
        saved = Schedule.from_dict(state_dict["schedule"])
        # What a schedule carries besides its numbers, like diagnostics, is not compared.
        differ = saved.to_dict() != self.schedule.to_dict()
        if differ:
            message = (
                f"the saved schedule, at step {state_dict['last_epoch']}, is {saved}; "
                f"the given one is {self.schedule}"
            )
            if self.on_mismatch == "error":
                raise ValueError(f'{message}; say on_mismatch="given" or "saved" to go on')
            warnings.warn(f"{message}; going on with the {self.on_mismatch} one", stacklevel=2)
        schedule = saved if differ and self.on_mismatch == "saved" else self.schedule
        super().load_state_dict({**state_dict, "schedule": schedule})
        if differ:
            self._write_lrs()

    def _write_lrs(self) -> None:
        """The present step's into the groups, which hold those of the other schedule."""
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
