"""Weights that someone else writes are followed where parameters are sharded, too."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import take_step
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

from benchmarks.ranks import on_ranks
from selftune.dtensor import is_sharded, whole
from selftune.optim import (
    DAdaptSGD,
    DoG,
    Prodigy,
    ScheduleFree,
    ScheduleFreeAdamW,
    SelfTune,
    attach,
)

METHODS: dict[str, Callable[..., Any]] = {
    "ScheduleFreeAdamW": ScheduleFreeAdamW,
    "ScheduleFree(AdamW)": lambda params: ScheduleFree(torch.optim.AdamW(params, lr=0.01)),
    "SelfTune": SelfTune,
    "Prodigy": lambda params: Prodigy(params, d0=1e-3),
    "DAdaptSGD": lambda params: DAdaptSGD(params, d0=1e-3),
    "DoG": DoG,
}
WRITES = ("loaded", "copied", "masked", "projected", "scaled")


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3)).double()


def alike(value: Tensor, p: Tensor) -> Tensor:
    """The value, divided among the ranks as the parameter is."""
    if not is_sharded(p):
        return value
    return distribute_tensor(value, p.device_mesh, p.placements)  # pyright: ignore[reportAttributeAccessIssue]


def write(model: nn.Module, optimizer: Any, how: str) -> None:
    source, first = network(seed=1), model[0].weight  # pyright: ignore[reportIndexIssue]
    mask = torch.arange(first.numel()).view(first.shape) % 3 > 0
    own = dict(model.named_parameters())
    with torch.no_grad():
        if how == "loaded":
            model.load_state_dict({n: alike(v, own[n]) for n, v in source.state_dict().items()})
        elif how == "copied":
            for p, q in zip(model.parameters(), source.parameters(), strict=True):
                p.copy_(alike(q.detach(), p))
        elif how == "masked":
            first.mul_(alike(mask.double(), first))
        elif how == "projected":
            optimizer.project(lambda: first.mul_(alike(mask.double(), first)))
        else:
            for p in model.parameters():
                p.mul_(0.5)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([whole(p.detach()).flatten() for p in model.parameters()])


def run(name: str, how: str, sharded: bool) -> list[Tensor]:
    """Where the model is evaluated and trained after writes between its steps."""
    model = network()
    if sharded:
        fully_shard(model[0])
        fully_shard(model)
    optimizer = METHODS[name](model.parameters())
    if how == "loaded":
        attach(model, optimizer)
    x, found = torch.linspace(-1, 1, 128, dtype=torch.float64).view(16, 8), []
    for step in range(6):
        optimizer.zero_grad()
        loss = (model.train()(x) - x[:, :3].sin()).square().mean()
        loss.backward()
        take_step(optimizer, loss.detach())
        if step in (2, 4):
            write(model, optimizer, how)
            with optimizer.evaluation_weights():
                found.append(weights(model))
            found.append(weights(model))
    return [*found, weights(model)]


def all_runs(sharded: bool) -> dict[tuple[str, str], list[Tensor]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constraints kept up by hand
        return {(name, how): run(name, how, sharded) for name in METHODS for how in WRITES}


@pytest.fixture(scope="module")
def divided() -> list[dict[tuple[str, str], list[Tensor]]]:
    return on_ranks(2, all_runs, True)


@pytest.fixture(scope="module")
def undivided() -> dict[tuple[str, str], list[Tensor]]:
    return all_runs(False)


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("name", METHODS)
def test_what_is_written_to_sharded_parameters_is_evaluated_and_trained_on(
    name, how, divided, undivided
):
    for of_rank in divided:
        torch.testing.assert_close(of_rank[name, how], undivided[name, how], rtol=1e-9, atol=1e-11)
    if how in ("loaded", "copied"):
        assert torch.equal(undivided[name, how][0], weights(network(seed=1)))
