"""ScheduleLR: a torch learning-rate scheduler that applies a Schedule."""

from __future__ import annotations

import warnings
from typing import Any, Literal
from weakref import finalize, ref

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from selftune.plain_numbers import plain_number
from selftune.schedules.schedule import Schedule
from selftune.step_hooks import innermost_optimizer

ON_MISMATCH = ("error", "given", "saved")

# An optimizer's attribute: its groups, with the lr that the last scheduler wrote into each. Groups
# are compared by identity, as loading a checkpoint replaces them. It is not in a dict of this
# module, as hooks of the parameters in a group may refer to the optimizer and keep it alive there.
WRITTEN = "_lrs_of_schedule"


class ScheduleLR(LRScheduler):
    """Multiplies every group's learning rate by a schedule; call `step()` after the optimizer's.

        scheduler = ScheduleLR(optimizer, cosine(num_steps).with_warmup(0.02))

    Each parameter group keeps its own peak lr, also groups that are added later. `state_dict`
    contains the schedule and the peaks as plain numbers, and `load_state_dict` compares them with
    the given ones (torch's LambdaLR silently goes on with the saved numbers). Optimizer and
    scheduler may be built and loaded in any order. If the optimizer is loaded before the scheduler
    is built, the saved peaks count.

    on_mismatch: if the given schedule or peaks differ from those of the checkpoint, or a peak from
        that of an earlier scheduler of the same optimizer: "error" raises ValueError; "given" goes
        on with the new ones from the saved step; "saved" goes back to the old ones. The last two
        warn. A learning rate that is written into a group of a loaded optimizer counts as a given
        peak; one that is written in mid-run lasts until the next `step()`, which warns once.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        last_epoch: int = -1,
        on_mismatch: Literal["error", "given", "saved"] = "error",
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
        self._resumed = False  # loaded, and no step made since
        self._held: list[float] = []  # lrs of a checkpoint that were not the schedule's, to be kept
        self._warned = True  # until the constructor is done, as torch makes the first step in it
        # The lr that groups with a peak had before this scheduler; None if a ScheduleLR wrote it.
        self._found: list[Any] = []
        self._alone = not hasattr(optimizer.step, "_wrapped_by_lr_sched")
        self._late = bool(optimizer.state) or getattr(optimizer, "_opt_called", False)
        if last_epoch == -1:
            self._compare_with_written(optimizer)
            self._found = _left_by_others(optimizer)
        super().__init__(optimizer, last_epoch)
        self._warned = False
        mine = ref(self)

        def write_again(_: Optimizer) -> None:  # if the optimizer is loaded after its scheduler
            scheduler = mine()
            if scheduler is not None and scheduler._resumed:
                scheduler._write_lrs()

        hook = innermost_optimizer(optimizer).register_load_state_dict_post_hook(write_again)
        finalize(self, hook.remove)

    def step(self, epoch: int | None = None) -> None:
        if epoch is None and not self._warned:
            self._notice_other_lrs()
            self._notice_other_peaks()
            self._found = []
        self._resumed = False
        super().step(epoch)

    def get_lr(self) -> list[Any]:
        groups = self.optimizer.param_groups
        for late in groups[len(self.base_lrs) :]:
            self.base_lrs.append(late.setdefault("initial_lr", _copied(late["lr"])))
        multiplier = self.schedule(max(0, self.last_epoch))  # -1: later in a SequentialLR
        lrs = [base * multiplier for base in self.base_lrs]
        setattr(self.optimizer, WRITTEN, list(zip(groups, lrs, strict=False)))
        return lrs

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        for name in ("on_mismatch", "_resumed", "_held", "_warned", "_found", "_alone", "_late"):
            del state[name]
        state |= {name: [_copied(lr) for lr in state[name]] for name in ("base_lrs", "_last_lr")}
        lrs = _plain([group["lr"] for group in self.optimizer.param_groups])
        return {**state, "schedule": self.schedule.to_dict(), "lrs": lrs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the saved step, and write its learning rates into the groups.

        Raises ValueError, and changes nothing, if the saved schedule or peaks differ from the given
        ones, unless `on_mismatch` says which to use, or if the number of groups differs.
        """
        for name in ("schedule", "base_lrs", "last_epoch", "_last_lr"):
            if name not in state_dict:
                raise ValueError(f"no {name} in the saved state: it is not that of a ScheduleLR")
        saved = Schedule.from_dict(state_dict["schedule"])
        saved_peaks, groups = list(state_dict["base_lrs"]), self.optimizer.param_groups
        if len(saved_peaks) != len(groups):
            raise ValueError(
                f"the saved scheduler has {len(saved_peaks)} parameter groups, the optimizer "
                f"{len(groups)}: build the same groups before loading"
            )
        added = groups[len(self.base_lrs) :]
        late = [_copied(group.get("initial_lr", group["lr"])) for group in added]
        peaks = self._with_given([*self.base_lrs, *late], state_dict, saved)
        differences = []
        # Compared as dicts, without what else a schedule carries, such as diagnostics.
        if saved.to_dict() != self.schedule.to_dict():
            differences.append(
                f"the saved schedule, at step {state_dict['last_epoch']}, is {saved}; "
                f"the given one is {self.schedule}"
            )
        if any(map(_differ, saved_peaks, peaks)):
            differences.append(
                f"the saved peaks, at step {state_dict['last_epoch']}, are {_plain(saved_peaks)}; "
                f"the given ones are {_plain(peaks)}"
            )
        if differences:
            self._say("; ".join(differences), stacklevel=3)
        back = differences and self.on_mismatch == "saved"
        self._found = []
        super().load_state_dict(
            {
                **{name: value for name, value in state_dict.items() if name != "lrs"},
                "schedule": saved if back else self.schedule,
                "base_lrs": peaks if differences and not back else saved_peaks,
            }
        )
        self._resumed = True
        lrs, own = state_dict.get("lrs", ()), state_dict["_last_lr"]
        # In torch's SequentialLR another scheduler may have written the groups' lrs.
        self._held = [] if differences or not any(map(_differ, lrs, own)) else lrs
        self._write_lrs()

    def _write_lrs(self) -> None:
        """Write the peaks and the present step's learning rates into the groups."""
        groups = self.optimizer.param_groups
        for group, peak in zip(groups, self.base_lrs, strict=False):
            group["initial_lr"] = _copied(peak)
        self._last_lr = self.get_lr()
        lrs = self._held or self._last_lr
        setattr(self.optimizer, WRITTEN, list(zip(groups, lrs, strict=False)))
        for group, lr in zip(groups, lrs, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def _compare_with_written(self, optimizer: Optimizer) -> None:
        """Report an lr that was written after an earlier scheduler, if it is not its peak."""
        for number, group in enumerate(optimizer.param_groups):
            if not _was_written(optimizer, number) or "initial_lr" not in group:
                continue
            peak, lr = group["initial_lr"], group["lr"]
            if _differ(lr, peak):
                self._say(
                    f"the saved peak of group {number}, an earlier scheduler's, is "
                    f"{float(peak)}; the given one, written since, is {float(lr)}",
                    stacklevel=4,
                )
                if self.on_mismatch == "given":
                    group["initial_lr"] = _copied(lr)

    def _with_given(
        self, peaks: list[Any], state_dict: dict[str, Any], saved: Schedule
    ) -> list[Any]:
        """The peaks, replaced by learning rates that callers wrote into a loaded optimizer."""
        step, given = state_dict["last_epoch"], list(peaks)
        for i, (lr, peak) in enumerate(zip(state_dict.get("lrs", ()), peaks, strict=False)):
            group = self.optimizer.param_groups[i]
            if _is_known(self.optimizer, i):  # not loaded since a scheduler last wrote the group
                present = self._found[i] if i < len(self._found) and self._alone else None
            else:
                present = group["lr"]
            # The optimizer may have been saved a step before its scheduler, or after it.
            near = (max(0, t) for t in (step - 1, step, step + 1))
            known = [lr, peak, *(peak * saved(t) for t in near)]
            if present is not None and all(_differ(present, each) for each in known):
                given[i] = _copied(present)
        return given

    def _notice_other_peaks(self) -> None:
        for number, (lr, peak) in enumerate(zip(self._found, self.base_lrs, strict=False)):
            if self._late and lr is not None and _differ(lr, peak):
                warnings.warn(
                    f"the lr of group {number} was {float(lr)} when this ScheduleLR was made, and "
                    f"the peak that it goes on from is {float(peak)}, an earlier scheduler's: for "
                    'another one, write it into the group\'s "initial_lr" too',
                    stacklevel=3,
                )
                return

    def _notice_other_lrs(self) -> None:
        for number, group in enumerate(self.optimizer.param_groups):
            # Torch's SequentialLR sets the lr back to the peak before it begins.
            if _was_written(self.optimizer, number) and _differ(group["lr"], group["initial_lr"]):
                self._warned = True
                warnings.warn(
                    f"the lr of group {number} was set to {float(group['lr'])} since the last "
                    f"step, and the schedule writes over it: for another peak, make a new "
                    'ScheduleLR with on_mismatch="given"',
                    stacklevel=3,
                )
                return

    def _say(self, message: str, stacklevel: int) -> None:
        if self.on_mismatch == "error":
            raise ValueError(f'{message}; say on_mismatch="given" or "saved" to go on')
        ones = f"going on with the {self.on_mismatch} one"
        warnings.warn(f"{message}; {ones}", stacklevel=stacklevel)


def _left_by_others(optimizer: Optimizer) -> list[Any]:
    return [
        _copied(group["lr"]) if "initial_lr" in group and not _is_known(optimizer, i) else None
        for i, group in enumerate(optimizer.param_groups)
    ]


def _is_known(optimizer: Optimizer, number: int) -> bool:
    """Whether a ScheduleLR has written into this group, which was not replaced since."""
    written = _written(optimizer)
    return number < len(written) and written[number][0] is optimizer.param_groups[number]


def _was_written(optimizer: Optimizer, number: int) -> bool:
    """Whether a group's lr was changed since the last scheduler wrote it."""
    if not _is_known(optimizer, number):
        return False
    lr = optimizer.param_groups[number]["lr"]
    if isinstance(lr, Tensor) and lr.device.type != "cpu":
        return False  # reading it would wait for the device
    return _differ(lr, _written(optimizer)[number][1])


def _written(optimizer: Optimizer) -> list[tuple[dict[str, Any], Any]]:
    return vars(optimizer).get(WRITTEN, [])


def _copied(lr: Any) -> Any:
    """A plain number; of an lr that is a tensor, into which steps write, a copy."""
    return lr.clone() if isinstance(lr, Tensor) else plain_number(lr)


def _differ(one: Any, other: Any) -> bool:
    # An lr in a tensor is rounded to the tensor's dtype.
    exact = not isinstance(one, Tensor) and not isinstance(other, Tensor)
    return abs(float(one) - float(other)) > (0 if exact else 1e-6 * abs(float(other)))


def _plain(lrs: list[Any]) -> list[float]:
    return [float(lr) for lr in lrs]
