"""Defects of other packages' optimizers that are not here, where no other file asks it.

docs/defects.md lists all of it, with the tests in the other files.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from contract import CLASSES, every_class, same, take_step, train, twins, weights, with_decay

from selftune.optim import (
    Optimizer,
    Prodigy,
    ScheduleFreePlus,
    ScheduleFreeProdigy,
    ScheduleFreeSGD,
    partitioned,
)


@every_class
def test_nothing_is_printed_and_no_file_is_written(cls, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    optimizer = cls(weights(), **with_decay(cls))
    train(optimizer, range(3))
    optimizer.eval()
    optimizer.load_state_dict(optimizer.state_dict())
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@every_class
@pytest.mark.parametrize("at_evaluation", [False, True])
def test_an_added_group_is_evaluated_at_its_evaluation_weights_too(cls, at_evaluation):
    # schedulefree's is taken to be there already, and saved as it trains.
    params = weights(torch.float64)
    optimizer = cls(params[:2])
    train(optimizer, range(5))
    if at_evaluation:
        optimizer.eval()
    optimizer.add_param_group({"params": params[2:]})
    if at_evaluation:
        optimizer.train()
    train(optimizer, range(5, 15))
    before = twins(params)
    optimizer.eval()
    averages = cls.to_evaluation is not Optimizer.to_evaluation
    assert [not torch.equal(p, q) for p, q in zip(params, before, strict=True)] == [averages] * 4
    optimizer.train()
    torch.testing.assert_close(params, before, rtol=1e-12, atol=1e-14)


# -- options ------------------------------------------------------------------------------------

ANOTHER: dict[str, Any] = {
    "lr": 0.3,
    "betas[0]": 0.5,
    "betas[1]": 0.9,
    "beta3": 0.5,
    "momentum": 0.5,
    "eps": 0.1,
    "weight_decay": 0.1,
    "warmup_steps": 5,
    "r": 2.0,
    "decay_at": "z",
    "inner_momentum": 0.5,
    "averaging_constant": 50.0,
    "d0": 1e-2,
    "d_coef": 0.5,
    "growth_rate": 1.02,
    "slice_p": 3,
    "use_bias_correction": True,
    "safeguard_warmup": True,
    "reps_rel": 1e-2,
    "beta": 0.5,
    "beta_max": 0.5,
    "anneal_steps": 5,
    "c_warmup": 5,
    "polyak_beta": 0.5,
    "max_step_size": 1e-3,
}
# What an option, or a class, needs beside it for the option to have a meaning.
BESIDE: dict[Any, dict[str, Any]] = {
    "decay_at": {"weight_decay": 0.1},
    "safeguard_warmup": {"lr": 0.5},
    "beta_max": {"anneal_steps": 5},
    ScheduleFreePlus: {"max_step_size": 0.1},
}
PAIRS = [
    pytest.param(cls, option, id=f"{cls.__name__}-{option}")
    for cls in CLASSES
    for name in inspect.signature(cls).parameters
    for option in (["betas[0]", "betas[1]"] if name == "betas" else [name])
    if option not in ("params", "compile")
]


def end(cls: type, options: dict[str, Any]) -> Any:
    params = weights(torch.float64)
    optimizer = cls(params, **options)
    train(optimizer, range(20))
    optimizer.eval()
    return params


@pytest.mark.parametrize(("cls", "option"), PAIRS)
def test_every_option_changes_the_run(cls, option):
    beside, value = {**BESIDE.get(option, {}), **BESIDE.get(cls, {})}, ANOTHER[option]
    if option.startswith("betas"):
        betas = list(inspect.signature(cls).parameters["betas"].default)
        betas[int(option[6])] = value
        changed = {"betas": tuple(betas)}
    else:
        changed = {option: value}
    assert not same(end(cls, {**beside, **changed}), end(cls, beside))


# -- sharded parameters, in a world of one rank -------------------------------------------------


@pytest.fixture
def mesh(tmp_path):
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()


def sharded(mesh: Any) -> list[Any]:
    from torch.distributed.tensor import Shard, distribute_tensor

    whole = [p.detach() for p in weights(torch.float64) if p.dim()]
    return [distribute_tensor(p, mesh, [Shard(0)]).requires_grad_() for p in whole]


def train_sharded(optimizer: Any, slope: float, steps: int) -> None:
    for _ in range(steps):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.full_like(p, slope)
        take_step(optimizer, 1.0)


@every_class
@pytest.mark.parametrize("beginning", ["lr 0", "zero gradients"])
def test_a_sharded_run_may_begin_with_nothing_to_learn_from(cls, beginning, mesh):
    # prodigyopt reads a number that it has not set, or divides 0 by 0.
    params = sharded(mesh)
    start = [p.to_local().clone() for p in params]
    optimizer = cls(params, **dict.fromkeys(with_decay(cls), 0.0))
    lr = optimizer.param_groups[0]["lr"]
    if beginning == "lr 0":
        optimizer.param_groups[0]["lr"] = 0.0
    train_sharded(optimizer, slope=float(beginning == "lr 0"), steps=2)
    assert all(torch.equal(p.to_local(), q) for p, q in zip(params, start, strict=True))
    optimizer.param_groups[0]["lr"] = lr
    train_sharded(optimizer, slope=1.0, steps=6)
    assert all(p.to_local().isfinite().all() for p in params)
    assert not any(torch.equal(p.to_local(), q) for p, q in zip(params, start, strict=True))


def test_zero_does_not_make_a_step_at_the_evaluation_weights_one_at_the_training_weights(mesh):
    # It writes its own groups, where train_mode never changes, over the optimizer's.
    from torch.distributed.optim import ZeroRedundancyOptimizer

    params, others = weights(torch.float64), weights(torch.float64)
    optimizer, reference = (
        ZeroRedundancyOptimizer(each, partitioned(ScheduleFreeSGD), lr=0.1)
        for each in (params, others)
    )
    train(optimizer, range(3))
    train(reference, range(3))
    for step in (3, 4):
        optimizer.optim.eval()
        with pytest.raises(RuntimeError, match="at the evaluation weights"):
            optimizer.step()
        optimizer.optim.train()
        train(optimizer, [step])
        train(reference, [step])
    torch.testing.assert_close(params, others, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cls", [Prodigy, ScheduleFreeProdigy])
def test_a_sample_of_sharded_parameters_is_refused(cls, mesh):
    with pytest.raises(ValueError, match="slice_p must be 1 for sharded parameters, got 11"):
        cls(sharded(mesh), slice_p=11)
