"""The closure passed to an optimizer's step, which recomputes the loss only when needed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Closure:
    """The loss of a batch, and its gradients in `grad`, at the present weights.

    As long as neither weights nor gradients have changed, it returns the loss that the training
    loop has computed, so that the first call costs nothing. SAM, LBFGS and similar optimizers
    change the weights and call it again: then loss and gradients are recomputed, as PyTorch's
    documentation describes.
    """

    def __init__(self, model: nn.Module):
        self._parameters = list(model.parameters())
        self._wanted = True  # whether the method called the last closure

    def __call__(self, loss: Tensor, again: Callable[[], Tensor]) -> Callable[[], Any]:
        """The closure for one step.

        loss: the loss of the batch, whose gradients have just been computed.
        again: clears the gradients, computes loss and gradients, and returns the loss.
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
        # Compare values and not version counters, which a write to `p.data` does not change.
        return [(p.detach().clone(), p.grad, _version(p.grad)) for p in self._parameters]

    def _is_still(self, state: list[tuple[Tensor, Tensor | None, int]]) -> bool:
        return all(
            p.grad is gradient and _version(p.grad) == version and torch.equal(p, weights)
            for p, (weights, gradient, version) in zip(self._parameters, state, strict=True)
        )


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor._version
