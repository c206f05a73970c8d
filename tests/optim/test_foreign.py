"""Runs begun with schedulefree, prodigyopt or dadaptation are continued by our classes."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from contract import CLASSES, backward, same, train, twins, weights
from torch import Tensor

from selftune import optim
from selftune.optim import DAdaptAdam, Prodigy, ScheduleFreeAdamW

# Our class; the peer's module and class; options of both; options which only the peer needs.
CASES: dict[str, tuple[str, str, str, dict[str, Any], dict[str, Any]]] = {
    "ScheduleFreeAdamW": (
        "ScheduleFreeAdamW",
        "schedulefree",
        "AdamWScheduleFree",
        {"lr": 0.02, "betas": (0.8, 0.99), "weight_decay": 0.1, "warmup_steps": 10, "r": 0.5},
        {},
    ),
    "ScheduleFreeSGD": (
        "ScheduleFreeSGD",
        "schedulefree",
        "SGDScheduleFree",
        {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 3},
        {},
    ),
    "ScheduleFreeRAdam": (
        "ScheduleFreeRAdam",
        "schedulefree",
        "RAdamScheduleFree",
        {"lr": 0.02, "betas": (0.8, 0.99), "weight_decay": 0.1},
        {},
    ),
    # The peer adds eps times the next d: here eps is too small to tell.
    "Prodigy": (
        "Prodigy",
        "prodigyopt",
        "Prodigy",
        {"d0": 1e-3, "eps": 1e-30, "weight_decay": 0.1, "safeguard_warmup": True},
        {"decouple": True},
    ),
    "Prodigy from a sample": (
        "Prodigy",
        "prodigyopt",
        "Prodigy",
        {"d0": 1e-3, "eps": 1e-30, "slice_p": 3},
        {},
    ),
    "DAdaptAdam": (
        "DAdaptAdam",
        "dadaptation",
        "DAdaptAdam",
        {"d0": 1e-3, "weight_decay": 0.1, "use_bias_correction": True},
        {"decouple": True},
    ),
    "DAdaptSGD": (
        "DAdaptSGD",
        "dadaptation",
        "DAdaptSGD",
        {"d0": 1e-3, "momentum": 0.9, "weight_decay": 0.1},
        {},
    ),
    "DAdaptAdaGrad": (
        "DAdaptAdaGrad",
        "dadaptation",
        "DAdaptAdaGrad",
        {"d0": 1e-3, "momentum": 0.9, "weight_decay": 0.1},
        {},
    ),
}
# As in test_parity.
DIGITS = {"rtol": 1e-8, "atol": 1e-10}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def step(optimizer: Any, number: int) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    backward(params, number)
    optimizer.step()


def begun(case: Any, stop: int = 7) -> tuple[torch.optim.Optimizer, list[Tensor], type, dict]:
    """A run of the peer's, our class, and the options for it."""
    name, module, theirs, options, more = case
    make = getattr(pytest.importorskip(module), theirs)
    params = weights(torch.float64)
    with torch.no_grad():
        params[1].zero_()  # of what is 0 at the start prodigyopt keeps a 0-d p0
    peer = make([{"params": params[:2]}, {"params": params[2:]}], **options, **more)
    if hasattr(peer, "train"):
        peer.train()
    for number in range(stop):
        step(peer, number)
    return peer, params, getattr(optim, name), options


def continued(peer: torch.optim.Optimizer, params: list[Tensor], cls: type) -> tuple[Any, Any]:
    """Ours, with nothing but the checkpoint of the peer's."""
    own = twins(params)
    optimizer = cls([{"params": own[:2]}, {"params": own[2:]}])
    optimizer.load_state_dict(copy.deepcopy(peer.state_dict()))
    return optimizer, own


@every_case
@pytest.mark.parametrize("stop", [1, 7])
def test_a_peers_checkpoint_continues_its_trajectory(case, stop):
    peer, params, cls, _ = begun(case, stop)
    optimizer, own = continued(peer, params, cls)
    for number in range(stop, stop + 20):
        step(peer, number)
        step(optimizer, number)
        torch.testing.assert_close(own, params, **DIGITS)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("ScheduleFree")])
def test_a_peers_checkpoint_of_its_evaluation_weights_continues_its_trajectory(name):
    peer, params, cls, _ = begun(CASES[name])
    peer.eval()
    optimizer, own = continued(peer, params, cls)
    peer.train()
    optimizer.train()
    for number in range(7, 20):
        step(peer, number)
        step(optimizer, number)
    peer.eval()
    optimizer.eval()
    torch.testing.assert_close(own, params, **DIGITS)


# Its alpha begins at 1e-6, ours at 0.
@pytest.mark.parametrize("case", [case for case in CASES.values() if case[0] != "DAdaptAdaGrad"])
def test_a_checkpoint_from_before_a_peers_first_step_starts_a_run(case):
    peer, params, cls, _ = begun(case, stop=0)
    optimizer, own = continued(peer, params, cls)
    optimizer.train()
    for number in range(5):
        step(peer, number)
        step(optimizer, number)
    torch.testing.assert_close(own, params, **DIGITS)


def test_without_momentum_a_peers_checkpoint_has_none_to_go_on_with():
    # There prodigyopt multiplies the gradient by the next d: its trajectory is another one.
    prodigyopt = pytest.importorskip("prodigyopt")
    params = weights(torch.float64)
    peer = prodigyopt.Prodigy(params, betas=(0.0, 0.99), d0=1e-3)
    train(peer, range(5))
    own = twins(params)
    optimizer = Prodigy(own)
    optimizer.load_state_dict(peer.state_dict())
    step(optimizer, 5)
    for p, q in zip(params, own, strict=True):
        assert same(optimizer.state[q]["exp_avg"], q.grad * peer.param_groups[0]["d"])
        assert not torch.equal(p, q)


def test_nothing_of_a_peers_groups_stays_that_nothing_reads():
    peer, params, cls, _ = begun(CASES["Prodigy"])
    optimizer, _ = continued(peer, params, cls)
    assert optimizer.param_groups[0].keys() == Prodigy(weights()).param_groups[0].keys()


@every_case
def test_a_peers_checkpoint_is_refused_by_every_other_method(case):
    peer, params, cls, _ = begun(case, stop=2)
    for other in set(CLASSES) - {cls}:
        with pytest.raises(ValueError, match=r"another method's: it (lacks|has)"):
            continued(peer, params, other)


@pytest.mark.parametrize("name", ["ScheduleFreeAdamW", "ScheduleFreeSGD", "ScheduleFreeRAdam"])
def test_a_schedule_free_state_that_counts_in_its_groups_otherwise_is_refused(name):
    peer = getattr(pytest.importorskip("pytorch_optimizer"), name)(weights())
    peer.train()
    train(peer, range(2))
    for cls in CLASSES:
        optimizer = cls(weights())
        with pytest.raises(ValueError, match="that of another optimizer, not of"):
            optimizer.load_state_dict(copy.deepcopy(peer.state_dict()))


def test_a_checkpoint_of_another_package_is_refused():
    dog = pytest.importorskip("dog")
    params = weights()
    peer = dog.DoG(params)
    for number in range(2):
        step(peer, number)
    for cls in CLASSES:
        with pytest.raises(ValueError, match="that of another optimizer, not of"):
            continued(peer, params, cls)


@pytest.mark.parametrize(
    ("package", "name", "options", "cls", "message"),
    [
        (
            "schedulefree",
            "AdamWScheduleFree",
            {"weight_lr_power": 1},
            ScheduleFreeAdamW,
            "weight_lr_power .* must be 2, got 1",
        ),
        (
            "dadaptation",
            "DAdaptAdam",
            {"weight_decay": 0.1, "decouple": False},
            DAdaptAdam,
            "weight_decay .* must be decoupled",
        ),
    ],
)
def test_a_peers_option_that_ours_does_not_have_is_refused(package, name, options, cls, message):
    pytest.importorskip(package)
    peer = getattr(importlib.import_module(package), name)(weights(), **options)
    if hasattr(peer, "train"):
        peer.train()
    train(peer, range(2))
    optimizer = cls(weights())
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(peer.state_dict())
    assert same(optimizer.state_dict(), before)
