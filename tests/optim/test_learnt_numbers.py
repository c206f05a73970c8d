"""The numbers that a method learns: people log, keep, set, cap and clear them."""

from __future__ import annotations

import copy
import gc
import json
import math
import sys
import weakref
from collections import defaultdict
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from contract import (
    CLASSES,
    backward,
    every_class,
    every_optimizer,
    same,
    snapshot,
    take_step,
    train,
    weights,
)
from torch import Tensor

from selftune import optim
from selftune.optim import (
    AdamW,
    DAdaptAdaGrad,
    DAdaptAdam,
    DAdaptSGD,
    DoG,
    DoWG,
    LDoG,
    Prodigy,
    ScheduleFree,
    ScheduleFreeAdamW,
    ScheduleFreePlus,
    ScheduleFreeProdigy,
    ScheduleFreeRAdam,
    SelfTune,
)

D = [Prodigy, ScheduleFreeProdigy, DAdaptSGD, DAdaptAdam, DAdaptAdaGrad]
every_distance = pytest.mark.parametrize("cls", D, ids=lambda cls: cls.__name__)
LEARNING = [cls for cls in CLASSES if cls.learns]
every_learning = pytest.mark.parametrize("cls", LEARNING, ids=lambda cls: cls.__name__)


def grouped(cls: type) -> Any:
    params = weights()
    return cls([{"params": params[:2]}, {"params": params[2:]}])


def numbers(optimizer: Any) -> list[dict[str, Tensor]]:
    return [
        {name: value for name, value in group.items() if isinstance(value, Tensor)}
        for group in optimizer.param_groups
    ]


# -- read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_what_is_read_for_logs_is_json(cls):
    optimizer = grouped(cls)
    train(optimizer, range(3))
    groups = optimizer.state_dict()["param_groups"]
    logged = json.loads(json.dumps([groups, optimizer.step_size()], default=float))
    for group, as_logged in zip(optimizer.param_groups, logged[0], strict=True):
        for name in (*cls.learns, "lr", "skipped_steps"):
            assert as_logged[name] == float(group[name])


@every_learning
def test_a_number_that_was_logged_keeps_its_value(cls):
    optimizer = grouped(cls)
    log, values = [], []
    for step in range(6):
        train(optimizer, [step])
        log.append(numbers(optimizer))
        values.append(copy.deepcopy(log[-1]))
    assert same(log, values)
    assert not same(log[0], log[-1])


@every_distance
def test_an_lr_taken_from_d_stays_what_it_was(cls):
    optimizer = grouped(cls)
    train(optimizer, range(3))
    other = AdamW(weights(), lr=optimizer.param_groups[0]["d"])
    before = float(other.param_groups[0]["lr"])
    train(optimizer, range(3, 12))
    assert float(other.param_groups[0]["lr"]) == before


@every_optimizer
def test_a_state_dict_from_before_training_rewinds(cls):
    params = weights()
    optimizer = cls(params)
    beginning = [p.detach().clone() for p in params]
    saved = optimizer.state_dict()
    train(optimizer, range(6))
    first = snapshot(optimizer, params)
    with torch.no_grad():
        for p, value in zip(params, beginning, strict=True):
            p.copy_(value)
    optimizer.load_state_dict(saved)
    train(optimizer, range(6))
    assert same(snapshot(optimizer, params), first)


@every_optimizer
def test_optimizers_loaded_from_one_state_dict_share_no_memory(cls):
    optimizer = cls(weights())
    train(optimizer, range(3))
    saved = optimizer.state_dict()
    others = [cls(weights()) for _ in range(2)]
    for other in others:
        other.load_state_dict(saved)
    before = copy.deepcopy((saved, others[1].state_dict()))
    train(others[0], range(3, 6))
    assert same((saved, others[1].state_dict()), before)


STEP_SIZES = {  # of the methods whose step size is not lr
    ScheduleFreeRAdam: lambda group, state: 0.0,  # in its first steps only v learns
    Prodigy: lambda group, state: group["lr"] * group["d"],
    ScheduleFreeProdigy: lambda group, state: group["lr"] * group["d"],
    ScheduleFreePlus: lambda group, state: group["step_size"],
    DAdaptSGD: lambda group, state: group["lr"] * group["d"] / group["g0_norm"],
    DAdaptAdam: lambda group, state: group["lr"] * group["d"],
    DAdaptAdaGrad: lambda group, state: group["lr"] * group["d"],
    DoG: lambda group, state: group["lr"] * group["eta"],
    DoWG: lambda group, state: group["lr"] * group["eta"],
    LDoG: lambda group, state: sum(s["r_bar"] / s["grad_norm"] for s in state) / len(state),
    SelfTune: lambda group, state: group["lr"] * math.exp(group["log_scale"]),
}


@every_class
def test_the_effective_step_size_of_each_group_is_a_number_for_logs(cls):
    optimizer = grouped(cls)
    train(optimizer, range(3))
    step_size = STEP_SIZES.get(cls, lambda group, state: group["lr"])
    expected = [
        float(step_size(group, [optimizer.state[p] for p in group["params"]]))
        for group in optimizer.param_groups
    ]
    assert optimizer.step_size() == pytest.approx(expected)
    assert json.loads(json.dumps(optimizer.step_size())) == optimizer.step_size()


@every_optimizer
def test_an_empty_tensor_leaves_the_step_size_a_number(cls):
    params = [*weights(), torch.empty(0, 3, requires_grad=True)]
    optimizer = cls(params)
    train(optimizer, range(3))
    assert all(map(math.isfinite, optimizer.step_size()))


def test_the_step_size_has_the_warm_up_of_the_method_in_it():
    optimizer = ScheduleFreeAdamW(weights(), lr=0.1, warmup_steps=10)
    train(optimizer, range(4))
    assert optimizer.step_size() == pytest.approx([0.04])


@pytest.mark.parametrize("cls", [Prodigy, DAdaptAdam])
def test_the_step_size_has_adams_bias_correction_in_it(cls):
    optimizer = cls(weights(), betas=(0.9, 0.999), use_bias_correction=True)
    train(optimizer, range(3))
    d = float(optimizer.param_groups[0]["d"])
    assert optimizer.step_size() == pytest.approx([d * (1 - 0.999**3) ** 0.5 / (1 - 0.9**3)])


@every_learning
def test_to_what_is_learnt_a_missing_gradient_is_one_of_zero(cls):
    ends = []
    for missing in (None, torch.zeros(3, 2, dtype=torch.float64)):
        params = weights(torch.float64)
        optimizer = cls(params)
        train(optimizer, range(5))
        backward(params, 5)
        params[0].grad = missing
        take_step(optimizer, torch.ones(()))
        ends.append([float(optimizer.param_groups[0][name]) for name in cls.learns])
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)


def test_a_wrapped_optimizer_has_its_bases_step_size():
    optimizer = ScheduleFree(Prodigy(weights()))
    train(optimizer, range(3))
    assert optimizer.step_size() == optimizer.base.step_size()
    assert ScheduleFree(torch.optim.SGD(weights(), lr=0.25)).step_size() == [0.25]


# -- written ------------------------------------------------------------------------------------


@every_distance
@pytest.mark.parametrize("through", [float, torch.tensor])
def test_a_d_set_by_hand_is_that_of_all_groups(cls, through):
    (optimizer, reference), (one, both) = (grouped(cls), grouped(cls)), ([0], [0, 1])
    for each, where in ((optimizer, one), (reference, both)):
        train(each, range(3))
        for i in where:
            each.param_groups[i]["d"] = through(1e-3)
        train(each, range(3, 6))
        assert each.step_size()[0] >= 9e-4 or cls is DAdaptSGD
    assert same(optimizer.state_dict(), reference.state_dict())


@every_distance
def test_a_d_capped_after_every_step_stays_capped(cls):
    optimizer = grouped(cls)
    for step in range(30):
        train(optimizer, [step])
        for group in optimizer.param_groups:
            group["d"] = min(float(group["d"]), 1e-5)
    assert all(float(group["d"]) <= 1e-5 for group in optimizer.param_groups)
    assert all(p.isfinite().all() for group in optimizer.param_groups for p in group["params"])


@every_distance
def test_a_d_capped_in_place_stays_capped(cls):
    optimizer, reference = grouped(cls), grouped(cls)
    for step in range(12):
        for each in (optimizer, reference):
            train(each, [step])
        optimizer.param_groups[0]["d"].clamp_(max=1e-5)
        for group in reference.param_groups:
            group["d"] = min(group["d"].item(), 1e-5)
    for each in (optimizer, reference):
        train(each, [12])
    assert same(optimizer.state_dict()["state"], reference.state_dict()["state"])


def test_groups_that_are_given_different_estimates_are_refused():
    optimizer = grouped(Prodigy)
    train(optimizer, range(3))
    for group, d in zip(optimizer.param_groups, (1e-3, 1e-2), strict=True):
        group["d"] = d
    with pytest.raises(ValueError, match=r"d must be the same in all groups.*0\.001, 0\.01"):
        train(optimizer, [3])


@every_distance
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), torch.tensor(-1.0)])
def test_a_d_out_of_range_is_refused(cls, value):
    optimizer = grouped(cls)
    train(optimizer, [0])
    optimizer.param_groups[0]["d"] = value
    with pytest.raises(ValueError, match=r"d must lie in \(0, inf\), got"):
        train(optimizer, [1])


@every_distance
@pytest.mark.parametrize(("name", "value"), [("d", float("nan")), ("d", 0), ("d_numerator", "nan")])
def test_a_loaded_number_out_of_range_is_refused_and_changes_nothing(cls, name, value):
    optimizer = grouped(cls)
    train(optimizer, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][1][name] = torch.tensor(float(value))
    with pytest.raises(ValueError, match=f"{name} must "):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[1][name].isfinite()


@pytest.mark.parametrize(
    ("cls", "name", "remedy"),
    [(DoG, "eta", "lr"), (DoWG, "eta", "r_bar"), (ScheduleFreePlus, "step_size", "max_step_size")],
)
def test_a_number_that_no_step_would_read_is_refused_with_the_remedy(cls, name, remedy):
    optimizer = grouped(cls)
    train(optimizer, range(3))
    optimizer.param_groups[0][name] = min(float(optimizer.param_groups[0][name]), 1e-5)
    with pytest.raises(ValueError, match=rf'{cls.__name__} computes.*"{name}".*set .*{remedy}'):
        train(optimizer, [3])


# -- cleared ------------------------------------------------------------------------------------


@every_learning
@pytest.mark.parametrize("how", ["replaced", "cleared", "popped"])
def test_clearing_the_state_clears_what_was_learnt_from_it(cls, how):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(6))
    if how == "replaced":
        optimizer.state = defaultdict(dict)
    elif how == "cleared":
        optimizer.state.clear()
    else:
        for p in params:
            optimizer.state.pop(p)
    fresh_params = [p.detach().clone().requires_grad_() for p in params]
    fresh = cls(fresh_params)
    train(optimizer, range(6, 9))
    train(fresh, range(6, 9))
    assert same(snapshot(optimizer, params), snapshot(fresh, fresh_params))


def test_a_d_set_as_the_state_is_cleared_is_where_the_estimate_begins():
    optimizer = grouped(Prodigy)
    train(optimizer, range(3))
    optimizer.state.clear()
    optimizer.param_groups[0]["d"] = 0.25
    train(optimizer, [3])
    assert optimizer.step_size() >= [0.25, 0.25]


# -- the loss outside a step, and loops that call train() often -----------------------------------


def test_a_loss_handed_over_before_the_step_is_the_steps():
    (params, others) = weights(), weights()
    optimizer, reference = ScheduleFreePlus(params), ScheduleFreePlus(others)
    for _ in range(4):
        for each, given in ((optimizer, params), (reference, others)):
            each.zero_grad()
            losses = [(p - 1).square().sum() for p in given]
            sum(losses).backward()
            if each is optimizer:
                for loss in losses:  # as of micro-batches, whose gradients add up
                    each.add_loss(loss)
                each.step()
            else:
                each.step(loss=sum(losses))
    torch.testing.assert_close(params, others)


def test_a_loss_is_cleared_with_its_gradients():
    params = weights()
    optimizer = ScheduleFreePlus(params)
    optimizer.add_loss(1.0)
    optimizer.zero_grad()
    for p in params:
        p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match="needs the loss"):
        optimizer.step()


@every_optimizer
def test_a_method_that_needs_no_loss_takes_one_all_the_same(cls):
    optimizer = cls(weights())
    optimizer.add_loss(torch.ones(()))
    train(optimizer, range(2))


@every_optimizer
def test_train_in_training_mode_waits_for_no_verdict(cls, monkeypatch):
    optimizer = cls(weights())
    train(optimizer, range(2))
    monkeypatch.setattr(type(optimizer), "settle", lambda self: pytest.fail("it waited"))
    optimizer.train()


# -- parts of the parameters ----------------------------------------------------------------------


def exchange_for_a_flat_part(optimizer):
    """As DeepSpeed's ZeRO does after it was given the optimizer."""
    params = optimizer.param_groups[0]["params"]
    part = torch.cat([p.detach().flatten() for p in params])[:7].requires_grad_()
    optimizer.param_groups[0]["params"] = [part]
    part.grad = torch.ones_like(part)


@pytest.mark.parametrize(
    "cls", [cls for cls in LEARNING if not cls.wants_whole_tensors], ids=lambda cls: cls.__name__
)
def test_flat_parts_that_take_the_parameters_place_are_refused(cls, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    optimizer = cls(weights())
    exchange_for_a_flat_part(optimizer)
    with pytest.raises(ValueError, match=rf"partitioned\({cls.__name__}\)"):
        take_step(optimizer, torch.ones(()))


@pytest.mark.parametrize(
    "cls", [LDoG, SelfTune, optim.partitioned(LDoG), optim.partitioned(SelfTune)]
)
def test_flat_parts_are_refused_by_what_has_numbers_of_each_tensor_on_one_rank_too(cls):
    optimizer = cls(weights())
    exchange_for_a_flat_part(optimizer)
    with pytest.raises(ValueError, match="treat each as one tensor; use fully_shard"):
        take_step(optimizer, torch.ones(()))


MAKES_OPTIMIZERS = """
class OptimizersContainer:
    def __init__(self, model_parts, make):
        self.model_parts = model_parts
        self.optimizers = [make(part.parameters()) for part in model_parts]
"""


@pytest.fixture
def container(monkeypatch):
    """The way in which torchtitan makes optimizers."""
    monkeypatch.setitem(sys.modules, "torchtitan", ModuleType("torchtitan"))
    module = ModuleType("torchtitan.components.optimizer.optimizer")
    exec(MAKES_OPTIMIZERS, module.__dict__)
    return module.OptimizersContainer


def parts(number):
    return [torch.nn.Linear(2, 2) for _ in range(number)]


@pytest.mark.parametrize("cls", LEARNING, ids=lambda cls: cls.__name__)
def test_one_optimizer_for_each_of_several_model_parts_is_refused(cls, container):
    with pytest.raises(ValueError, match=rf"2 model parts.*partitioned\({cls.__name__}, group\)"):
        container(parts(2), cls)
    assert len(container(parts(1), cls).optimizers) == 1


def test_model_parts_are_refused_in_a_container_of_the_users_own_too(container):
    class Own(container):
        pass

    with pytest.raises(ValueError, match="2 model parts"):
        Own(parts(2), Prodigy)


def test_one_optimizer_of_all_model_parts_is_taken(container):
    class OfAll(container):
        def __init__(self, model_parts, make):
            self.model_parts = model_parts
            self.optimizers = [make([p for part in model_parts for p in part.parameters()])]

    assert len(OfAll(parts(2), Prodigy).optimizers) == 1


@pytest.mark.parametrize("cls", [optim.AdamW, optim.ScheduleFreeAdamW, LDoG])
def test_what_learns_nothing_from_other_parts_takes_model_parts(cls, container):
    assert len(container(parts(2), cls).optimizers) == 2


def test_stages_of_a_pipeline_are_parts_that_have_to_be_told(container):
    def build(parallel_dims, make):
        return container(parts(1), make)

    with pytest.raises(ValueError, match=r"torchtitan's pipeline .*partitioned\(Prodigy\)"):
        build(SimpleNamespace(pp_enabled=True), Prodigy)
    build(SimpleNamespace(pp_enabled=False), Prodigy)
    build(SimpleNamespace(pp_enabled=True), optim.partitioned(Prodigy))


def test_a_d_halved_in_place_in_every_group_is_halved_once():
    params = weights()
    optimizer = Prodigy(params[:2], d0=1e-3)
    optimizer.add_param_group({"params": params[2:]})
    for group in optimizer.param_groups:
        group["d"].mul_(0.5)
    assert [float(g["d"]) for g in optimizer.param_groups] == pytest.approx([5e-4, 5e-4])


def test_making_an_optimizer_keeps_nothing_alive_that_its_caller_drops(monkeypatch):
    # Who made it is looked for among its callers once these are loaded.
    zero = ModuleType("torch.distributed.optim.zero_redundancy_optimizer")
    zero.ZeroRedundancyOptimizer = type("ZeroRedundancyOptimizer", (), {})
    for module in (zero, ModuleType("torchtitan")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    parameters = weights()
    gone = weakref.ref(parameters[0])
    Prodigy(parameters)
    del parameters
    gc.collect()
    assert gone() is None


def test_what_learns_from_each_element_alone_takes_flat_parts(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    optimizer = optim.AdamW(weights())
    part = torch.ones(7, requires_grad=True)
    optimizer.param_groups[0]["params"] = [part]
    part.grad = torch.ones_like(part)
    optimizer.step()
    assert not torch.equal(part, torch.ones(7))


def test_losses_that_were_added_count_in_place_of_what_a_closure_returns():
    # A framework that accumulates gradients steps with the closure of the last micro-batch alone.
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    given, added = (ScheduleFreePlus([p], max_step_size=math.inf) for p in parameters)
    for p in parameters:
        p.grad = torch.full((3,), 0.5)
    given.step(loss=3.0)
    added.add_loss(1.0)

    def closure():
        added.add_loss(2.0)
        return 2.0

    assert added.step(closure) == 2.0
    assert torch.equal(*parameters)


def test_a_loss_that_was_added_goes_with_the_gradients():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = ScheduleFreePlus([parameter])
    optimizer.add_loss(3.0)
    optimizer.zero_grad()
    parameter.grad = torch.ones(3)
    with pytest.raises(ValueError, match="needs the loss"):
        optimizer.step()


def test_a_loss_that_was_added_stays_what_it_was():
    parameter = torch.nn.Parameter(torch.ones(3))
    reference = torch.nn.Parameter(torch.ones(3))
    optimizer = ScheduleFreePlus([parameter], max_step_size=math.inf)
    loss = torch.tensor(3.0)
    optimizer.add_loss(loss)
    loss *= 2  # for a log, as fastai does
    parameter.grad = reference.grad = torch.full((3,), 0.5)
    optimizer.step()
    ScheduleFreePlus([reference], max_step_size=math.inf).step(loss=3.0)
    assert torch.equal(parameter, reference)
