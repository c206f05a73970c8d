"""Training and evaluation weights: one protocol for all optimizers here."""

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
from selftune.swapped_parameters import refuse_swapped


class Now:
    """Where an optimizer is between two calls.

    It is an object of its own for the sake of Lightning's wrapper around optimizers, which calls
    their methods with itself: it finds the attributes of what it wraps, and sets its own.
    """

    def __init__(self) -> None:
        self.held = 0  # contexts of `evaluation_weights`
        self.at_evaluation = False  # since the last `eval` of this object
        self.is_average_used = False  # judged, or saved with all that it can be made of
        self.loss: Any = None  # what `add_loss` was given since the last step
        self.verdict: Any = None  # on the step, until it is known to have counted
        self.has_warned = False
        self.has_warned_of_kept = False


class EvaluationWeights(ABC):
    """Base of what moves parameters between two places; `train_mode` of the groups says which.

    Parameters that someone else has written are judged as they were written. A step goes on from
    them; if they have got back what they held before, as after an average's exchange, nothing has
    happened.
    """

    param_groups: list[dict[str, Any]]
    _marks: Marks  # the parameters as this optimizer left them
    # Parameters that did not move with their group, as someone else had written them: their marks
    # are of the other place.
    _unmoved: set[Tensor]
    attachments: list[Any]  # to models
    _now: Now

    @property
    def is_held(self) -> bool:
        """Whether the parameters are to stay at the evaluation weights."""
        return self._now.held > 0

    def is_as_left(self, p: Tensor) -> bool:
        """Whether the parameter holds what this optimizer wrote last."""
        return p in self._marks and p not in self._written(wait=False)

    def warn_of_kept(self) -> None:
        """Once: a state dict was kept whose tensors are the parameters."""
        if not self._now.has_warned_of_kept:
            self._now.has_warned_of_kept = True
            remark(
                "a state dict that was kept without a copy holds the parameters themselves, and "
                "no longer the evaluation weights that they were at; to keep those, write "
                "copy.deepcopy(model.state_dict()) while the model is at them"
            )

    @property
    def has_unmoved(self) -> bool:
        """Whether some parameters did not move with their group."""
        return bool(self._unmoved)

    def begin_following(self) -> None:
        """Forget what the parameters held before."""
        self._marks, self._unmoved, self.attachments = Marks(), set(), []
        if "_now" not in vars(self):
            self._now = Now()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        this: Any = self  # an optimizer of torch too
        twin: Any = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(this.__getstate__(), memo))
        for attachment in self.attachments:
            attachment.copied(memo, twin)
        return twin

    def train(self) -> None:
        """Move the parameters to where gradients are taken. An optimizer starts there."""
        self._switch(train_mode=True)

    def eval(self) -> None:
        """Move the parameters to where the model is judged and saved."""
        self._switch(train_mode=False)

    @contextmanager
    def evaluation_weights(self) -> Generator[None]:
        """Inside, the parameters hold the evaluation weights; the mode before comes back.

        This holds under `attach` too, whatever the modes of the model and of gradients.
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
        """Keep up a constraint: apply `fn` to the training and to the evaluation weights.

            optimizer.step()
            optimizer.project(lambda: model.weight.clamp_(-1, 1))  # not the clamp alone

        fn: writes the parameters in place, from nothing but themselves: a mask, a clamp, a norm, a
            copy of one to another. Of a Schedule-Free method it is called at z and at x, so that
            what is judged meets the constraint; of another one once. It needs memory for four
            copies of the parameters then.
        """
        self.settle()
        refuse_swapped(f"{type(self).__name__}.project()", self._followed())
        self._go_on(wait=True)
        if self._has_two_places:
            self._project(fn)
        else:
            fn()
        self._marks.sign(self._followed())

    @abstractmethod
    def other_weights(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """A copy of what the group's parameter would hold at the other of the two places.

        That is x at the training weights, and y at the evaluation weights. Nothing is moved.
        """

    # -- what an optimizer defines ------------------------------------------------------------

    @property
    @abstractmethod
    def _has_two_places(self) -> bool:
        """Whether the evaluation weights are others than the training weights."""

    @abstractmethod
    def _followed(self) -> list[Tensor]:
        """The parameters whose state has to follow when someone else writes them."""

    @abstractmethod
    def _kept(self, p: Tensor) -> dict[str, Any]:
        """What is kept of a parameter: `z`, `x` and `compensation` where there are any."""

    @abstractmethod
    def _move(self, params: list[Tensor], train_mode: bool) -> None:
        """Move these to the training weights, or to the evaluation weights."""

    @abstractmethod
    def _restart(self, writes: dict[Tensor, Write]) -> None:
        """Go on from what the parameters hold: both averages and estimates begin there."""

    @abstractmethod
    def settle(self) -> None:
        """Wait for the verdict on the last step, which tells whether it was skipped."""

    def _correct_groups(self) -> None:  # noqa: B027
        """Have `train_mode` say where the parameters are."""

    # -- moving -------------------------------------------------------------------------------

    @torch.no_grad()
    def _switch(self, train_mode: bool) -> None:
        self._now.is_average_used |= not train_mode
        self._correct_groups()
        changing = [group for group in self.param_groups if group["train_mode"] != train_mode]
        if not changing and not self._unmoved:
            return  # loops call `train` before every batch: nothing is waited for
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
        self._take_over({p: write for p, write in writes.items() if write.where is not None})
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
                        self._unmoved.discard(p)  # its mark is of this place
                    elif p not in rewritten:
                        self._unmoved.discard(p)
                        moving.append(p)
                elif changes and p in rewritten:
                    self._unmoved.add(p)
                elif changes:
                    moving.append(p)
        self._move(moving, train_mode)
        self._marks.sign(moving)

    def _go_on(self, wait: bool = False) -> None:
        """Before a step: have all that is kept agree with what the parameters hold."""
        writes = self._written(wait)
        restored: list[Tensor] = []
        if self._unmoved:
            restored = [p for p in self._followed() if p in self._unmoved and p not in writes]
            self._move(restored, self.param_groups[0]["train_mode"])
        self._unmoved.clear()
        if writes or restored:
            self._take_over(writes)
            self._marks.sign([*writes, *restored])

    def _written(self, wait: bool) -> dict[Tensor, Write]:
        """What someone else wrote into the present parameters."""
        writes = self._marks.written(wait)
        present: set[Tensor] = set(self._followed()) if writes else set()
        return {p: write for p, write in writes.items() if p in present}

    def _take_over(self, writes: dict[Tensor, Write]) -> None:
        if not writes:
            return
        self._restart(writes)
        if self._now.has_warned or not any(write.again for write in writes.values()):
            return
        self._now.has_warned = True
        name = type(self).__name__
        remark(
            f"parameters were written between the steps of {name}, again and again. What it keeps "
            "of them restarts from what was written, so that little is averaged or learnt; keep "
            "up a constraint by optimizer.project(fn), where fn writes the parameters in place",
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
            # Where `fn` changes nothing, they are restored bit for bit.
            put(plain(p), at_y, ~where)
            if digits is not None:
                put(plain(state["compensation"]), digits, ~where)

    def _require_training_weights(self) -> None:
        """Raise RuntimeError where a step would start from what the model is judged at."""
        if not self.param_groups[0]["train_mode"]:
            name = type(self).__name__
            raise RuntimeError(f"{name}.step() at the evaluation weights; call train() first")


def _holders(params: list[Tensor]) -> list[int]:
    """How many tensors share each parameter's memory; none where torch does not tell."""
    count = getattr(torch._C, "_storage_Use_Count", None)  # pyright: ignore[reportPrivateUsage]
    storages = (plain(p).untyped_storage() for p in params)
    return [count(each._cdata) for each in storages] if count else []  # pyright: ignore[reportPrivateUsage]


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else plain(tensor).detach().clone()


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [plain(tensor).detach().clone() for tensor in tensors]
