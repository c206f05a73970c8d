"""Training and evaluation weights: one protocol for all optimizers here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from selftune.swapped_parameters import refuse_lent


class EvaluationWeights(ABC):
    """What moves parameters between two places; `train_mode` of the groups says where they are."""

    param_groups: list[dict[str, Any]]

    @abstractmethod
    def train(self) -> None:
        """Move the parameters to where gradients are taken. An optimizer starts there."""

    @abstractmethod
    def eval(self) -> None:
        """Move the parameters to where the model is judged and saved."""

    def _require_training_weights(self) -> None:
        """Raise RuntimeError where a step would start from what the model is judged at."""
        if not self.param_groups[0]["train_mode"]:
            name = type(self).__name__
            raise RuntimeError(f"{name}.step() at the evaluation weights; call train() first")

    def _refuse_lent(self, train_mode: bool) -> None:
        """Raise RuntimeError where the move would be that of an average."""
        moved = [group for group in self.param_groups if group["train_mode"] != train_mode]
        caller = f"{type(self).__name__}.{'train' if train_mode else 'eval'}()"
        refuse_lent(caller, (p for group in moved for p in group["params"]))

    @contextmanager
    def evaluation_weights(self) -> Generator[None]:
        """Inside, the parameters hold the evaluation weights; the mode before comes back."""
        was_training = self.param_groups[0]["train_mode"]
        self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()
