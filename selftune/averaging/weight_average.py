"""WeightAverage: an average of a model's weights during training, and swapping it in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from selftune.averaging.average_tensors import Memory
from selftune.averaging.batch_norm import recalibrate_batch_norm
from selftune.averaging.module_tensors import (
    Place,
    buffers,
    buffers_restored,
    fsdp_modules,
    innermost,
    parameters,
    reshard,
)
from selftune.averaging.profiles import Moment, Profile
from selftune.dtensor import own_part
from selftune.step_hooks import StepHooks, innermost_optimizer
from selftune.swapped_parameters import refuse_swapped, swapped

# Models that currently hold an average.
_in_swap: WeakSet[nn.Module] = WeakSet()


class WeightAverage:
    """An average of a model's weights along the training run.

        average = WeightAverage(model, LAWA(), total_steps=num_steps)
        average.attach(optimizer)
        ...
        with average.swap(model):
            evaluate(model)

    profile: which iterates to average, and with what weights: EMA(), LAWA(), ...
    total_steps: the length of the run; needed if the profile has lengths in fractions of it.
    include: (name, parameter) -> bool; parameters for which it is False are not averaged.
    average_buffers: average floating-point buffers too; otherwise the model keeps its present
        ones. Other buffers, such as counters, are never averaged.
    offload: keep the average on the CPU and fold the weights in there, on another thread.

    Averages are float32, or wider if the parameters are. Tensors are matched by name, without the
    prefixes of wrappers such as torch.compile and DistributedDataParallel. Sharded parameters have
    sharded averages. Memory is allocated at the first fold.
    """

    def __init__(
        self,
        model: nn.Module,
        profile: Profile,
        *,
        total_steps: int | None = None,
        include: Callable[[str, Tensor], bool] | None = None,
        average_buffers: bool = False,
        offload: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"WeightAverage takes the model itself, got a {type(model).__name__}")
        if not isinstance(profile, Profile):
            raise ValueError(f"profile must be one such as EMA() or LAWA(), got {profile!r}")
        self.profile = profile.in_steps(total_steps)
        self.steps = 0  # optimizer steps so far
        self.folds = 0  # number of times that the weights were folded in
        self._previous = 0  # the step of the last fold, counted from the profile's start
        self._model = innermost(model)
        self._places = {
            name: place
            for name, place in parameters(model).items()
            if _has_mean(place) and (include is None or include(name, place.tensor))
        }
        if average_buffers:
            found = buffers(model).items()
            self._places |= {name: place for name, place in found if _has_mean(place)}
        if not self._places:
            raise ValueError(f"{type(model).__name__} has no floating-point tensor to average")
        self._offload = offload
        self._memory: Memory | None = None
        self._fsdp_modules: list[nn.Module] = []
        self._step_hooks: StepHooks | None = None
        self._swapped = False

    def __getstate__(self) -> dict[str, Any]:
        """A copy has a model of its own, at its present weights, and follows no optimizer."""
        self._settle()
        return {**vars(self), "_step_hooks": None, "_swapped": False}

    # -- following a run ----------------------------------------------------------------------

    def attach(self, optimizer: torch.optim.Optimizer) -> StepHooks:
        """Update the average after every step of the optimizer that was not skipped.

        If several optimizers train one model, attach to the one that steps last: the weights after
        its steps are averaged, and only its steps count. Optimizers may be wrapped by accelerate.
        Raises ValueError for an optimizer that holds none of the model's parameters, such as
        DeepSpeed's, which holds copies: call `update()` after each step instead.

        Returns a handle with `remove()`.
        """
        try:
            optimizer = innermost_optimizer(optimizer)
        except ValueError:
            kind = type(optimizer).__name__
            raise ValueError(f"attach() takes a torch optimizer, got a {kind}") from None
        own = {id(place.tensor) for place in parameters(self._model).values()}
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                f"the {type(optimizer).__name__} holds none of the parameters of this "
                f"{type(self._model).__name__}: attach to the optimizer that trains it, or call "
                "update() after each of its steps"
            )
        if getattr(optimizer, "averages", False) and not getattr(optimizer, "attachments", ()):
            name = type(optimizer).__name__
            warnings.warn(
                f"{name} has an average of its own, at which the model is to be evaluated, and "
                "this is another one, of its training weights; call selftune.optim.attach(model, "
                "optimizer) first, so that the model is at the right weights outside swap(), or "
                "take an optimizer that does not average, such as AdamW",
                stacklevel=2,
            )
        if self._attached():
            raise RuntimeError("attach() was called before: call remove() on what it returned")
        self._step_hooks = StepHooks(optimizer, self._count, before=self._before_step)
        return self._step_hooks

    def update(self) -> None:
        """Count an optimizer step, and fold the weights in if the profile asks for this step."""
        if self._attached():
            raise RuntimeError("update() is called by the optimizer given to attach()")
        self._refuse_in_swap("update()", self._model)
        self._count()
        self._hold()

    def _before_step(self) -> None:
        self._refuse_in_swap("optimizer.step()", self._model)
        self._hold()

    def _hold(self) -> None:
        if self._memory is not None:
            self._memory.hold()

    @torch.no_grad()
    def _count(self) -> None:
        self.steps += 1
        assert isinstance(self.profile.start, int)
        step = self.steps - self.profile.start
        if step <= 0 or step % self.profile.every:
            return
        memory = self._allocated()
        reshard(self._fsdp_modules)
        memory.fold(Moment(step, self._previous, self.folds))
        self._previous = step
        self.folds += 1

    def _attached(self) -> bool:
        return self._step_hooks is not None and self._step_hooks.active

    def _allocated(self) -> Memory:
        if self._memory is None:
            self._fsdp_modules = fsdp_modules(self._model)
            reshard(self._fsdp_modules)
            with torch.inference_mode(False):  # its tensors could not be updated outside
                self._memory = Memory(self.profile, self._places, self._offload)
        return self._memory

    def _settle(self) -> None:
        """Wait until all steps so far are counted and all weights folded in."""
        if self._step_hooks is not None:
            self._step_hooks.settle()
        if self._memory is not None:
            self._memory.wait()

    def _refuse_in_swap(self, caller: str, model: nn.Module) -> None:
        if self._swapped or innermost(model) in _in_swap:
            raise RuntimeError(f"{caller} inside swap(), where the model holds an average")
        refuse_swapped(caller, model.parameters())  # by the average of a part, or of a whole

    # -- using the average --------------------------------------------------------------------

    @contextmanager
    def swap(
        self,
        model: nn.Module,
        batches: Iterable[Any] | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
    ) -> Iterator[None]:
        """Swap the averaged weights into the model; afterwards restore its own bit for bit.

        Values are exchanged tensor by tensor, in place, without a second copy of the model; only
        tensors of another dtype than their average (bfloat16) are copied. So do not train inside,
        as a change of the weights would change the average. A Schedule-Free optimizer raises if
        its train() or eval() is called inside; call them before. Buffers are restored too.
        Before the first fold the model keeps its own weights, with a warning.

        batches, forward: as in `recalibrate_batch_norm`: inside, the BatchNorm statistics are
            those of the averaged weights on these batches.
        """
        self._refuse_in_swap("swap()", model)
        theirs = self._matching("swap()", model)
        empty = self._empty("swap()", stacklevel=4)
        with ExitStack() as restore:
            _in_swap.add(innermost(model))
            restore.callback(_in_swap.discard, innermost(model))
            self._swapped = True
            restore.callback(setattr, self, "_swapped", False)
            restore.enter_context(swapped(place.tensor for place in theirs.values()))
            if not empty:
                restore.callback(reshard, fsdp_modules(model))
                restore.enter_context(buffers_restored(model))
                restore.enter_context(self._allocated().exchanged(theirs))
                if batches is not None:
                    recalibrate_batch_norm(model, batches, forward)
            yield

    def copy_to(self, model: nn.Module) -> None:
        """Copy the averaged weights into the model."""
        self._refuse_in_swap("copy_to()", model)
        theirs = self._matching("copy_to()", model)
        if not self._empty("copy_to()", stacklevel=3):
            self._allocated().copy_to(theirs)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the averaged weights, by name. Raises RuntimeError before the first fold."""
        self._settle()
        if not self.folds:
            raise RuntimeError(self._nothing_yet())
        means = self._allocated().means()
        return {name: mean.detach().clone() for name, mean in means.items()}

    def _matching(self, caller: str, model: nn.Module) -> dict[str, Place]:
        """The model's tensors with the names of the averaged ones."""
        reshard(fsdp_modules(self._model))
        reshard(fsdp_modules(model))
        found = {**buffers(model), **parameters(model)}
        for name, place in self._places.items():
            shape = tuple(own_part(place.tensor).shape)
            theirs = tuple(own_part(found[name].tensor).shape) if name in found else "missing"
            if theirs != shape:
                raise ValueError(
                    f"{caller} needs a model like the averaged one: "
                    f"{name!r} should have shape {shape}, but is {theirs}"
                )
        return {name: found[name] for name in self._places}

    def _empty(self, caller: str, stacklevel: int) -> bool:
        self._settle()
        if not self.folds:
            message = f"{caller} leaves the model its own weights: {self._nothing_yet()}"
            warnings.warn(message, stacklevel=stacklevel)
        return not self.folds

    def _nothing_yet(self) -> str:
        text = f"nothing is averaged after {self.steps} steps by {self.profile}"
        if self.steps or self._attached():
            return text
        return f"{text}: call attach(optimizer) before training, or update() after each step"

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The average and its counts. As in torch's optimizers, tensors are not copied."""
        self._settle()
        return {
            "profile": self.profile.describe(),
            "steps": self.steps,
            "folds": self.folds,
            "previous": self._previous,
            "tensors": self._allocated().tensors(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved average. Raises ValueError, and changes nothing, if it does not fit."""
        self._refuse_in_swap("load_state_dict()", self._model)
        self._settle()
        found = state_dict.keys() if isinstance(state_dict, dict) else ()
        if missing := {"profile", "steps", "folds", "previous", "tensors"}.difference(found):
            raise ValueError(f"not the state_dict of a WeightAverage: it lacks {sorted(missing)}")
        mine, saved = self.profile.describe(), state_dict["profile"]
        if not isinstance(saved, dict):
            raise ValueError(f"not the state_dict of a WeightAverage: its profile is {saved!r}")
        if saved != mine:
            raise ValueError(
                f"the saved average has {_unlike(saved, mine)}, this one {_unlike(mine, saved)}: "
                "resume with the same profile and total_steps"
            )
        counts = [state_dict[name] for name in ("steps", "folds", "previous")]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError(f"not the state_dict of a WeightAverage: its counts are {counts}")
        self._allocated().load(state_dict["tensors"])
        self.steps, self.folds, self._previous = counts


def _unlike(profile: dict[str, Any], other: dict[str, Any]) -> str:
    """The options of a profile that differ from those of the other; long values are cut."""
    texts = {k: repr(v) for k, v in profile.items() if k not in other or v != other[k]}
    return ", ".join(f"{k}={v if len(v) <= 80 else v[:77] + '...'}" for k, v in texts.items())


def _has_mean(place: Place) -> bool:
    return place.tensor.is_floating_point() or place.tensor.is_complex()
