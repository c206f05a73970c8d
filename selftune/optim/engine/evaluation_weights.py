"""Training and evaluation weights: `train()`, `eval()`, `evaluation_weights()` and `project()`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from operator import lt
from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.collectives import plain
from selftune.optim.engine.foreign_writes import Marks, Write, put
from selftune.optim.engine.remarks import remark
from selftune.optim.engine.unused_average import AverageUse
from selftune.swapped_parameters import refuse_swapped


class Now:
    """The transient state of an optimizer, which no checkpoint contains.

    It is an object of its own because of Lightning's wrapper, which calls an optimizer's methods
    with itself as `self`: attributes would be read from the optimizer but set on the wrapper.
    """

    def __init__(self) -> None:
        self.held = 0  # number of open `evaluation_weights` blocks
        self.at_evaluation = False  # whether `eval` was called last, rather than `train`
        self.average = AverageUse()
        self.loss: Any = None  # the sum of `add_loss` since the last step
        self.verdict: Any = None  # on the last step, while it is unknown whether it was skipped
        self.has_warned = False
        self.has_warned_of_kept = False


class EvaluationWeights(ABC):
    """Base class of optimizers with training and evaluation weights.

    `train_mode` in the parameter groups says which of the two the parameters hold. Values that are
    written into a parameter from outside the optimizer are kept when the mode changes, and the next
    step goes on from them; if the old values are back by then, as after an average was swapped in
    and out, nothing has happened.
    """

    param_groups: list[dict[str, Any]]
    _marks: Marks  # what this optimizer last wrote into the parameters
    # Parameters that kept values written from outside when their group changed its mode. Their
    # marks are those of the mode before.
    _unmoved: set[Tensor]
    attachments: list[Any]  # what `attach` returned
    _now: Now

    @property
    def is_held(self) -> bool:
        """Whether an `evaluation_weights` block is open, in which nothing moves the parameters."""
        return self._now.held > 0

    def is_as_left(self, p: Tensor) -> bool:
        """Whether the parameter holds what this optimizer wrote last."""
        return p in self._marks and p not in self._written(wait=False)

    def warn_of_kept(self) -> None:
        """Warn, once, of a state dict that was kept without a copy while the weights moved."""
        if not self._now.has_warned_of_kept:
            self._now.has_warned_of_kept = True
            remark(
                "a state dict that was kept without a copy holds the parameters themselves, which "
                "have moved away from the evaluation weights; to keep those, write "
                "copy.deepcopy(model.state_dict()) while the model is at them"
            )

    @property
    def has_unmoved(self) -> bool:
        """Whether some parameters kept values from outside when their group changed its mode."""
        return bool(self._unmoved)

    def begin_following(self) -> None:
        """Start without a record of the parameters' values."""
        self._marks, self._unmoved, self.attachments = Marks(), set(), []
        if "_now" not in vars(self):
            self._now = Now()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        this: Any = self  # which is a torch.optim.Optimizer too
        twin: Any = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(this.__getstate__(), memo))
        for attachment in self.attachments:
            attachment.copied(memo, twin)
        return twin

    def train(self) -> None:
        """Move the parameters to the training weights, at which an optimizer also starts."""
        self._switch(train_mode=True)

    def eval(self) -> None:
        """Move the parameters to the evaluation weights, to evaluate, save or export the model."""
        self._switch(train_mode=False)

    @contextmanager
    def evaluation_weights(self) -> Generator[None]:
        """Inside, the parameters hold the evaluation weights; afterwards the mode is restored.

        With an attached model too, whatever its mode and whether gradients are enabled.
        """
        was_training = self.param_groups[0]["train_mode"]
        self.eval()
        self._now.held += 1
        moves_back = was_training and self._now.held == 1 and self._has_two_places
        holders = _holders(self._followed()) if moves_back else []
        try:
            yield
        finally:
            self._now.held -= 1
            is_kept = bool(holders) and all(map(lt, holders, _holders(self._followed())))
            if was_training and not self._now.held:
                self.train()
            if is_kept:
                self.warn_of_kept()

    @torch.no_grad()
    def project(self, fn: Callable[[], Any]) -> None:
        """Apply a constraint to the training and to the evaluation weights.

            optimizer.step()
            optimizer.project(lambda: model.weight.clamp_(-1, 1))  # in place of the clamp alone

        fn: writes the parameters in place, as a function of the parameters alone: a mask, a clamp,
            a normalization, a copy of one to another. A Schedule-Free method calls it at z and at
            x, so that the evaluation weights meet the constraint, and needs memory for four copies
            of the parameters meanwhile; a method without evaluation weights calls it once.
        """
        self.settle()
        refuse_swapped(f"{type(self).__name__}.project()", self._followed())
        self._adapt_to_writes(wait=True)
        if self._has_two_places:
            self._project(fn)
        else:
            fn()
        self._marks.record(self._followed())

    @abstractmethod
    def other_weights(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """A copy of what the parameter would hold in the other mode; nothing is moved.

        That is the evaluation weights in training mode, and the training weights otherwise.
        """

    # -- what an optimizer defines ------------------------------------------------------------

    @property
    @abstractmethod
    def _has_two_places(self) -> bool:
        """Whether the evaluation weights differ from the training weights."""

    @abstractmethod
    def _followed(self) -> list[Tensor]:
        """The parameters whose state has to be adapted when they are written from outside."""

    @abstractmethod
    def _kept(self, p: Tensor) -> dict[str, Any]:
        """The state of a parameter with `z`, `x` and `compensation` where the method has them."""

    @abstractmethod
    def _move(self, params: list[Tensor], train_mode: bool) -> None:
        """Move these parameters to the training weights, or to the evaluation weights."""

    @abstractmethod
    def _restart(self, writes: dict[Tensor, Write]) -> None:
        """Adapt the parameters' state to these writes, from which averages and estimates go on."""

    @abstractmethod
    def settle(self) -> None:
        """Wait for the verdict on the last step, which tells whether it was skipped."""

    def _correct_groups(self) -> None:  # noqa: B027
        """Correct `train_mode` if a wrapper has overwritten it."""

    # -- moving -------------------------------------------------------------------------------

    @torch.no_grad()
    def _switch(self, train_mode: bool) -> None:
        self._now.average.is_used |= not train_mode
        self._correct_groups()
        changing = [group for group in self.param_groups if group["train_mode"] != train_mode]
        if not changing and not self._unmoved:
            return  # some loops call `train` before every batch, which should not wait
        self.settle()
        if self._has_two_places:
            refuse_swapped(
                f"{type(self).__name__}.{'train' if train_mode else 'eval'}()",
                (p for group in changing for p in group["params"]),
            )
            self._move_all(train_mode)
        for group in changing:
            group["train_mode"] = train_mode

    def _move_all(self, train_mode: bool) -> None:
        writes = self._written(wait=True)
        self._restart_and_warn({p: write for p, write in writes.items() if write.where is not None})
        rewritten = {p for p, write in writes.items() if write.where is None}
        followed = set(self._followed())
        moving: list[Tensor] = []
        for group in self.param_groups:
            changes = group["train_mode"] != train_mode
            for p in group["params"]:
                if p not in followed:
                    continue
                if p in self._unmoved:
                    if changes:
                        self._unmoved.discard(p)  # its mark is of this mode
                    elif p not in rewritten:
                        self._unmoved.discard(p)
                        moving.append(p)
                elif changes and p in rewritten:
                    self._unmoved.add(p)
                elif changes:
                    moving.append(p)
        self._move(moving, train_mode)
        self._marks.record(moving)

    def _adapt_to_writes(self, wait: bool = False) -> None:
        """Before a step: adapt the state to parameters that were written from outside."""
        writes = self._written(wait)
        restored: list[Tensor] = []
        if self._unmoved:
            restored = [p for p in self._followed() if p in self._unmoved and p not in writes]
            self._move(restored, self.param_groups[0]["train_mode"])
        self._unmoved.clear()
        if writes or restored:
            self._restart_and_warn(writes)
            self._marks.record([*writes, *restored])

    def _written(self, wait: bool) -> dict[Tensor, Write]:
        """The writes from outside to the present parameters."""
        writes = self._marks.written(wait)
        present: set[Tensor] = set(self._followed()) if writes else set()
        return {p: write for p, write in writes.items() if p in present}

    def _restart_and_warn(self, writes: dict[Tensor, Write]) -> None:
        if not writes:
            return
        self._restart(writes)
        if self._now.has_warned or not any(write.again for write in writes.values()):
            return
        self._now.has_warned = True
        name = type(self).__name__
        remark(
            f"parameters were written between the steps of {name}, again and again. Each time its "
            "averages and estimates restart from these values, so that little is averaged or "
            "learnt; apply a constraint by optimizer.project(fn), where fn writes the parameters "
            "in place",
        )

    def _project(self, fn: Callable[[], Any]) -> None:
        params = self._followed()
        kept = [self._kept(p) for p in params]
        known = set(params)
        others = [p for group in self.param_groups for p in group["params"] if p not in known]
        untouched = _copies(others)
        training = self.param_groups[0]["train_mode"]
        if not any("z" in state for state in kept):  # both places are kept as they are
            for train_mode in (not training, training):
                self._move(params, train_mode)
                before = _copies(params)
                for p, value in zip(others, untouched, strict=True):
                    plain(p).copy_(value)
                fn()
                for p, state, value in zip(params, kept, before, strict=True):
                    if "compensation" in state:
                        plain(state["compensation"]).masked_fill_(plain(p) != value, 0)
            return
        y = _copies(params)
        lost = [_copy(state.get("compensation")) for state in kept]
        if training:
            self._move(params, train_mode=False)
        old_x = _copies(params)
        fn()
        new_x = _copies(params)
        for p, value in zip(others, untouched, strict=True):
            plain(p).copy_(value)  # `fn` is called twice, and has to find these unchanged
        for p, state in zip(params, kept, strict=True):
            plain(p).copy_(plain(state["z"]))
        old_z = _copies(params)
        fn()
        moved: list[Tensor] = []
        for p, state, x, x_before, z_before in zip(params, kept, new_x, old_x, old_z, strict=True):
            at_z, at_x = plain(p) != z_before, x != x_before
            put(plain(state["z"]), plain(p), at_z)
            if "x" in state:
                put(plain(state["x"]), x, at_x)
            if "compensation" in state:
                plain(state["compensation"]).masked_fill_(at_x, 0)
            plain(p).copy_(x)
            moved.append(at_z | at_x)
        if not training:
            return
        self._move(params, train_mode=True)
        for p, state, where, at_y, digits in zip(params, kept, moved, y, lost, strict=True):
            # What `fn` leaves unchanged is restored bit for bit.
            put(plain(p), at_y, ~where)
            if digits is not None:
                put(plain(state["compensation"]), digits, ~where)

    def _require_training_weights(self) -> None:
        """Raise RuntimeError if the parameters are at the evaluation weights."""
        if not self.param_groups[0]["train_mode"]:
            name = type(self).__name__
            raise RuntimeError(
                f"{name}.step() at the evaluation weights; call optimizer.train() first"
            )


def _holders(params: list[Tensor]) -> list[int]:
    """The number of tensors on each parameter's storage; an empty list if torch cannot tell."""
    count = getattr(torch._C, "_storage_Use_Count", None)  # pyright: ignore[reportPrivateUsage]
    storages = (plain(p).untyped_storage() for p in params)
    return [count(each._cdata) for each in storages] if count else []  # pyright: ignore[reportPrivateUsage]


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else plain(tensor).detach().clone()


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [plain(tensor).detach().clone() for tensor in tensors]
