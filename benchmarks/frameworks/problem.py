"""A small regression, and a recorder of an optimizer's evaluation weights after each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 8
STEPS_PER_EPOCH = 6
EPOCHS = 4


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 12), nn.Linear(12, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.hidden(inputs).tanh())


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def _data(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator)
    noise = torch.randn(size, 1, generator=generator)
    return inputs, inputs.sin().sum(1, keepdim=True) + 0.3 * noise


TRAINING = _data(STEPS_PER_EPOCH * BATCH, seed=1)
VALIDATION = _data(2 * BATCH, seed=2)


def training_batches() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*TRAINING), batch_size=BATCH)


def validation_batches() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*VALIDATION), batch_size=len(VALIDATION[0]))


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs), targets)


def validation_loss(weights: Mapping[str, Tensor]) -> float:
    with torch.no_grad():
        outputs = torch.func.functional_call(Net(), dict(weights), (VALIDATION[0],))
        return nn.functional.mse_loss(outputs, VALIDATION[1]).item()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state dict."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def at_epoch_ends(after_steps: Sequence[Any]) -> Sequence[Any]:
    """The entries at the ends of epochs, from one entry for each step."""
    return after_steps[STEPS_PER_EPOCH - 1 :: STEPS_PER_EPOCH]


class Recorder:
    """The evaluation weights and the effective step size after each step of a run."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.model = model
        self.weights: list[dict[str, Tensor]] = []
        self.step_sizes: list[float] = []
        optimizer.register_step_post_hook(self._record)

    @torch.no_grad()
    def _record(self, optimizer: Any, *_: Any) -> None:
        before = [p.clone() for p in self.model.parameters()]
        moves = hasattr(optimizer, "eval")
        if moves:
            optimizer.eval()
        self.weights.append({name: p.clone() for name, p in self.model.named_parameters()})
        self.step_sizes.append(_step_size(optimizer.param_groups[0], optimizer))
        if moves:
            optimizer.train()
        for p, value in zip(self.model.parameters(), before, strict=True):
            if p.dtype == torch.float32:  # for smaller types the state keeps the rounding errors
                p.copy_(value)


def _step_size(group: dict[str, Any], optimizer: Any) -> float:
    """The first group's effective step size, which each package keeps in another place."""
    if hasattr(optimizer, "step_size"):
        return optimizer.step_size()[0]
    return group["scheduled_lr"] if "scheduled_lr" in group else group["d"] * group["lr"]


def near(a: float, b: float) -> bool:
    """Whether two losses are equal up to rounding."""
    return abs(a - b) <= 1e-5 * abs(b)


def alike(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two sets of weights are equal up to rounding."""
    return a.keys() == b.keys() and all(
        torch.allclose(a[name], b[name], rtol=1e-5, atol=1e-6) for name in a
    )


def logged(truth: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a column of a framework's logs holds the effective step sizes."""
    common = set[str]().union(*rows).intersection(*rows)
    return any(all(map(near, truth, (float(row[name]) for row in rows))) for name in common)


def same_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
