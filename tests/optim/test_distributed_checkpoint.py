"""Checkpoints of torch.distributed.checkpoint, saved on some ranks and loaded on another number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from contract import CLASSES, WRAPPED, every_optimizer, same, snapshot, train, with_decay
from torch import nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from benchmarks.ranks import in_worlds
from benchmarks.sharding import STEPS, UNEVEN, Run, Runner, Training, apart
from benchmarks.sharding import train as train_alone

# It says so where there is one process only.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

LIST = {cls.__name__: Runner(cls, with_decay(cls)) for cls in CLASSES + WRAPPED}
HALF = STEPS // 2
KINDS = {
    "sharded": StateDictOptions(),
    "flattened": StateDictOptions(flatten_optimizer_state_dict=True),
    "full": StateDictOptions(full_state_dict=True),
}


def states(training: Training, kind: str) -> dict[str, Any]:
    pairs = [(name, training.bank.nets[name], each) for name, each in training.optimizers.items()]
    return {
        name: dict(
            zip(("model", "optimizer"), get_state_dict(net, each, options=KINDS[kind]), strict=True)
        )
        for name, net, each in pairs
    }


def set_states(training: Training, kind: str, loaded: dict[str, Any]) -> None:
    for name, optimizer in training.optimizers.items():
        set_state_dict(
            training.bank.nets[name],
            optimizer,
            model_state_dict=loaded[name]["model"],
            optim_state_dict=loaded[name]["optimizer"],
            options=KINDS[kind],
        )


def saved(folder: Path) -> None:
    """Half of a run, saved in every form."""
    training = Training(LIST, "FSDP2 uneven")
    training.steps(range(HALF))
    for kind in KINDS:
        state = states(training, kind)
        if kind != "full":
            checkpoint.save(state, checkpoint_id=folder / kind)
        elif dist.get_rank() == 0:
            torch.save(state, folder / kind)


def resumed(folder: Path, kind: str, way: str | None = "FSDP2 uneven") -> dict[str, Run]:
    """The other half, by another number of ranks, from other weights than the run began with."""
    training = Training(LIST, way, widths=UNEVEN)
    with torch.no_grad():
        for p in training.bank.parameters():
            p.add_(1)
    if kind == "full":
        state = torch.load(folder / kind, weights_only=True)
    else:
        state = states(training, kind)
        checkpoint.load(state, checkpoint_id=folder / kind)
    set_states(training, kind, state)
    training.steps(range(HALF, STEPS))
    return training.finished()


def all_resumed(folder: Path) -> dict[str, dict[str, Run]]:
    return {kind: resumed(folder, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def runs(folder) -> list[dict[str, dict[str, Run]]]:
    return in_worlds({4: (saved, folder), 2: (all_resumed, folder)})[2]


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Run]:
    return train_alone(LIST, widths=UNEVEN)


@every_optimizer
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_continue_the_run_of_four(runs, uninterrupted, cls, kind):
    for by_kind in runs:
        run = by_kind[kind][cls.__name__]
        assert run.error is None
        assert apart(run, uninterrupted[cls.__name__]) < 1e-9


@every_optimizer
def test_every_rank_loads_the_same_estimate(runs, cls):
    for kind in KINDS:
        assert len({by_kind[kind][cls.__name__].d for by_kind in runs}) == 1


def test_one_process_continues_the_run_of_four_ranks(runs, uninterrupted, folder):
    for name, run in resumed(folder, "full", way=None).items():
        assert apart(run, uninterrupted[name]) < 1e-9


@every_optimizer
@pytest.mark.parametrize("kind", KINDS)
def test_state_of_bfloat16_parameters_is_loaded_as_it_was(cls, kind, tmp_path):
    def session() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2, dtype=torch.bfloat16)
        return model, cls(model.parameters(), **with_decay(cls))

    def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        of_model, of_optimizer = get_state_dict(model, optimizer, options=KINDS[kind])
        return {"model": of_model, "optimizer": of_optimizer}

    model, optimizer = session()
    train(optimizer, range(5))
    checkpoint.save(state(model, optimizer), checkpoint_id=tmp_path, no_dist=True)
    other, resumed = session()
    loaded = state(other, resumed)
    checkpoint.load(loaded, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(
        other,
        resumed,
        model_state_dict=loaded["model"],
        optim_state_dict=loaded["optimizer"],
        options=KINDS[kind],
    )
    before = snapshot(optimizer, [*model.parameters()])
    assert same(snapshot(resumed, [*other.parameters()]), before)


@every_optimizer
@pytest.mark.parametrize("at_evaluation", [False, True])
def test_asking_a_new_optimizer_for_its_state_does_not_change_its_run(cls, at_evaluation):
    # It makes a step with zero gradients and lr 0, wherever the weights are.
    models = [nn.Linear(3, 2, dtype=torch.float64) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    asked, not_asked = (cls(model.parameters(), **with_decay(cls)) for model in models)
    if at_evaluation:
        asked.eval()
    get_state_dict(models[0], asked)
    asked.train()
    train(asked, range(5))
    train(not_asked, range(5))
    assert same([*models[0].parameters()], [*models[1].parameters()])
