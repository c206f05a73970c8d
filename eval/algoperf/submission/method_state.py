"""The state of a method during training: optimizer, schedule, evaluation weights, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from selftune.averaging.module_tensors import buffers_restored, innermost

from .expected import Expected

if TYPE_CHECKING:
    from ...methods import Build, Weights


class MethodState:
    """An optimizer with its schedule, which moves to the evaluation weights and back."""

    def __init__(self, build: Build, model: nn.Module, num_steps: int) -> None:
        # Recalibration runs the bare model: DDP would synchronize buffers, and a compiled model
        # would be recompiled for every momentum.
        self._model = innermost(model)
        self.optimizer, self._scheduler, self._weights = build(self._model, num_steps)
        self._average = _owner(self._weights)
        self._evaluation: ExitStack | None = None  # closing it restores the training weights
        self.expected = Expected()

    def step(self, loss: Tensor) -> None:
        """Make a step. loss: for methods that need it; it is not recomputed."""
        closure: Any = lambda: loss  # noqa: E731
        self.optimizer.step(closure)
        if self._scheduler is not None:
            self._scheduler.step()

    def enter_evaluation(self, recalibrate: Callable[[nn.Module], None]) -> None:
        """Move to the evaluation weights, and recompute the BatchNorm statistics there."""
        if self._weights is None or self._evaluation is not None:
            return
        with ExitStack() as stack:
            stack.enter_context(buffers_restored(self._model))
            stack.enter_context(self._weights())
            recalibrate(self._model)
            self._evaluation = stack.pop_all()

    def leave_evaluation(self) -> None:
        """Restore the training weights and their statistics, unless they are active."""
        if self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs, except the model.

        The runner calls it after an evaluation and holds references to the model's tensors. With
        the training weights restored in them, the checkpoint contains these.
        """
        self.leave_evaluation()
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        """The objects with a state: optimizer, schedule, and perhaps the evaluation weights."""
        parts: dict[str, Any] = {"optimizer": self.optimizer}
        if self._scheduler is not None:
            parts["scheduler"] = self._scheduler
        if self._average is not None and self._average is not self.optimizer:
            parts["average"] = self._average
        return parts


def _owner(weights: Weights | None) -> Any:
    """The object with the evaluation weights. Raises ValueError if it has no state dict."""
    if weights is None:
        return None
    method = weights.func if isinstance(weights, partial) else weights
    owner = getattr(method, "__self__", None)
    if not hasattr(owner, "state_dict"):
        raise ValueError(
            "the evaluation weights must be a method, or functools.partial of a method, of "
            f"something with a state_dict, which checkpoints hold; got {weights!r}"
        )
    return owner
