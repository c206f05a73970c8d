"""The closure that an optimizer's step is given: it can ask for the loss at any weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Closure:
    """The loss of a batch, and its gradients in `grad`, at the present weights.

    Those that the loop has computed already serve as long as neither weights nor gradients have
    changed, so that asking once costs nothing. SAM, LBFGS and their kin move the weights and ask
    again: then it is computed again, as a closure of PyTorch's documentation does.
    """

    def __init__(self, model: nn.Module):
        self._parameters = list(model.parameters())
        self._wanted = True  # whether the method has been seen to ask

    def __call__(self, loss: Tensor, again: Callable[[], Tensor]) -> Callable[[], Any]:
        """For one step.

        loss: of the batch, whose gradients have just been computed.
        again: clears the gradients, computes loss and gradients, returns the loss.
        """
        given = self._state() if self._wanted else None
        self._wanted = False

        def closure() -> Tensor:
            self._wanted = True
            if given is not None and self._is_still(given):
                return loss.detach()
            with torch.enable_grad():
                return again().detach()

        return closure

    def _state(self) -> list[tuple[Tensor, Tensor | None, int]]:
        # Values and not versions of the weights: a write to `p.data` leaves no trace in them.
        return [(p.detach().clone(), p.grad, _version(p.grad)) for p in self._parameters]

    def _is_still(self, state: list[tuple[Tensor, Tensor | None, int]]) -> bool:
        return all(
            p.grad is gradient and _version(p.grad) == version and torch.equal(p, weights)
            for p, (weights, gradient, version) in zip(self._parameters, state, strict=True)
        )


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor._version
