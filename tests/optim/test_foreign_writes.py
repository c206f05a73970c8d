"""Weights that someone else writes are evaluated as they are, and training goes on from them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import take_step
from torch import Tensor, nn

from selftune.averaging import Polyak, WeightAverage
from selftune.optim import (
    DAdaptAdaGrad,
    DAdaptSGD,
    DoG,
    LDoG,
    Prodigy,
    ScheduleFree,
    ScheduleFreeAdamW,
    ScheduleFreePlus,
    ScheduleFreeProdigy,
    ScheduleFreeRAdam,
    ScheduleFreeSGD,
    SelfTune,
    attach,
)

Model = nn.Sequential
pytestmark = pytest.mark.filterwarnings("ignore:.*averages in the place of a decaying schedule")
# What one more step moves; networks of two seeds are 0.6 apart.
NEAR = {"rtol": 0, "atol": 0.02}
X = torch.randn(64, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def wrapper(params: Any) -> ScheduleFree:
    return ScheduleFree(torch.optim.AdamW(params, lr=0.01, betas=(0.0, 0.999), weight_decay=0))


AVERAGED: dict[str, Callable[..., Any]] = {
    "ScheduleFreeSGD": lambda params: ScheduleFreeSGD(params, lr=0.1),
    "ScheduleFreeAdamW": ScheduleFreeAdamW,
    "ScheduleFreeRAdam": ScheduleFreeRAdam,
    "ScheduleFreeProdigy": lambda params: ScheduleFreeProdigy(params, d0=1e-3),
    "ScheduleFreePlus": ScheduleFreePlus,
    "ScheduleFree(AdamW)": wrapper,
    "SelfTune": SelfTune,
    "ScheduleFree(Prodigy)": lambda params: ScheduleFree(Prodigy(params, d0=1e-3)),
}
every_average = pytest.mark.parametrize("make", AVERAGED.values(), ids=AVERAGED.keys())
GOES_ON = AVERAGED | {
    "Prodigy": lambda params: Prodigy(params, d0=1e-3),
    "DAdaptSGD": lambda params: DAdaptSGD(params, d0=1e-3),
    "DAdaptAdaGrad": lambda params: DAdaptAdaGrad(params, d0=1e-3),
    "DoG": DoG,
    "LDoG": LDoG,
}
every_method = pytest.mark.parametrize("make", GOES_ON.values(), ids=GOES_ON.keys())


def network(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 1)).double()


def fit(model: nn.Module, optimizer: Any, steps: int, then: Callable[[], Any] = lambda: None):
    for step in range(steps):
        optimizer.zero_grad()
        noise = torch.randn(64, 1, generator=torch.Generator().manual_seed(step)).double()
        loss = (model(X) - X[:, :1].sin() - 0.3 * noise).square().mean()
        loss.backward()
        take_step(optimizer, loss)
        then()


def rest(model: nn.Module, optimizer: Any) -> None:
    """A step with gradients of zero and a small lr, as some methods have momentum."""
    for group in optimizer.param_groups:
        group["lr"] *= 1e-3
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    take_step(optimizer, torch.zeros(()))


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def evaluated(model: nn.Module, optimizer: Any) -> Tensor:
    with optimizer.evaluation_weights():
        return flat(model)


def trained(make: Callable[..., Any], steps: int = 8) -> tuple[Model, Any]:
    model = network()
    optimizer = make(model.parameters())
    fit(model, optimizer, steps)
    return model, optimizer


# -- loads --------------------------------------------------------------------------------------


def load(model: nn.Module, source: nn.Module) -> None:
    model.load_state_dict(source.state_dict())


def copy_in_place(model: nn.Module, source: nn.Module) -> None:
    with torch.no_grad():
        for p, q in zip(model.parameters(), source.parameters(), strict=True):
            p.copy_(q)


def copy_to_data(model: nn.Module, source: nn.Module) -> None:
    for p, q in zip(model.parameters(), source.parameters(), strict=True):
        p.data.copy_(q.data)


def exchange_data(model: nn.Module, source: nn.Module) -> None:
    for p, q in zip(model.parameters(), source.parameters(), strict=True):
        p.data = q.data.clone()


def from_vector(model: nn.Module, source: nn.Module) -> None:
    nn.utils.vector_to_parameters(flat(source), model.parameters())


every_load = pytest.mark.parametrize(
    "write", [load, copy_in_place, copy_to_data, exchange_data, from_vector]
)


@every_method
@every_load
def test_loaded_weights_are_evaluated_and_trained_on(make, write):
    model, optimizer = trained(make)
    source = network(seed=1)
    write(model, source)
    assert torch.equal(evaluated(model, optimizer), flat(source))
    rest(model, optimizer)
    torch.testing.assert_close(flat(model), flat(source), **NEAR)
    torch.testing.assert_close(evaluated(model, optimizer), flat(source), **NEAR)


@every_average
@pytest.mark.parametrize("attached", [False, True])
def test_the_best_weights_come_back_as_they_were(make, attached):
    model, optimizer = trained(make)
    if attached:
        attach(model, optimizer)
        best = copy.deepcopy(model.state_dict())
    else:
        with optimizer.evaluation_weights():
            best = copy.deepcopy(model.state_dict())
    fit(model.train(), optimizer, 5)
    model.load_state_dict(best)
    expected = torch.cat([value.flatten() for value in best.values()])
    if attached:
        with torch.no_grad():
            model.eval()(X)
        assert torch.equal(flat(model), expected)
        assert torch.equal(torch.cat([v.flatten() for v in model.state_dict().values()]), expected)
        model.train()(X)
    else:
        assert torch.equal(evaluated(model, optimizer), expected)
    rest(model, optimizer)
    torch.testing.assert_close(evaluated(model, optimizer), expected, **NEAR)


@every_average
def test_weights_loaded_at_the_evaluation_weights_are_trained_on(make):
    model, optimizer = trained(make)
    source = network(seed=1)
    optimizer.eval()
    load(model, source)
    optimizer.train()
    rest(model, optimizer)
    torch.testing.assert_close(flat(model), flat(source), **NEAR)


@every_average
def test_a_part_that_is_loaded_leaves_the_average_of_the_rest_alone(make):
    (model, optimizer), (twin, other) = trained(make), trained(make)
    source = network(seed=1)
    model[0].load_state_dict(source[0].state_dict())
    with optimizer.evaluation_weights(), other.evaluation_weights():
        assert torch.equal(flat(model[0]), flat(source[0]))
        assert torch.equal(flat(model[2]), flat(twin[2]))
    rest(model, optimizer)
    rest(twin, other)
    with optimizer.evaluation_weights(), other.evaluation_weights():
        torch.testing.assert_close(flat(model[0]), flat(source[0]), **NEAR)


@every_average
def test_what_is_saved_after_a_load_goes_on_from_what_was_loaded(make):
    model, optimizer = trained(make)
    load(model, network(seed=1))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    resumed = network()
    other = make(resumed.parameters())
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    rest(resumed, other)
    torch.testing.assert_close(flat(resumed), flat(network(seed=1)), **NEAR)


@every_method
@pytest.mark.parametrize("first", ["model", "optimizer"])
def test_a_run_resumes_bit_for_bit_whatever_is_loaded_first(make, first):
    model, optimizer = trained(make)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    resumed, other = trained(make, steps=3)
    for each in ("model", "optimizer") if first == "model" else ("optimizer", "model"):
        resumed.load_state_dict(saved[0]) if each == "model" else other.load_state_dict(saved[1])
    for net, each in ((model, optimizer), (resumed, other)):
        fit(net, each, 5)
    assert torch.equal(flat(model), flat(resumed))
    assert torch.equal(evaluated(model, optimizer), evaluated(resumed, other))


@every_method
def test_memory_that_is_exchanged_with_its_values_is_no_write(make):
    (model, optimizer), (twin, other) = trained(make), trained(make)
    for p in model.parameters():
        p.data = p.data.clone()
    for net, each in ((model, optimizer), (twin, other)):
        fit(net, each, 3)
    assert torch.equal(flat(model), flat(twin))


@every_average
def test_weights_put_back_up_to_rounding_are_no_write(make):
    (model, optimizer), (twin, other) = trained(make), trained(make)
    kept = copy.deepcopy(model)
    optimizer.eval()
    optimizer.train()
    copy_to_data(model, kept)
    for net, each in ((model, optimizer), (twin, other)):
        fit(net, each, 5)
    torch.testing.assert_close(
        evaluated(model, optimizer), evaluated(twin, other), rtol=1e-9, atol=1e-11
    )


# -- averages beside it -------------------------------------------------------------------------


@every_average
@pytest.mark.parametrize("through_data", [True, False])
@pytest.mark.parametrize("attached", [True, False])
def test_an_average_that_is_exchanged_for_the_weights_leaves_no_trace(make, through_data, attached):
    (model, optimizer), (twin, other) = trained(make), trained(make)
    if attached:
        attach(model, optimizer)
    average = network(seed=1)
    kept = copy.deepcopy(model)
    write = copy_to_data if through_data else copy_in_place
    for net, each in ((model, optimizer), (twin, other)):
        net.train()
        fit(net, each, 1)
    held = flat(model)
    copy_in_place(kept, model)
    write(model, average)
    with torch.no_grad():
        model.eval()(X)
    assert torch.equal(evaluated(model, optimizer), flat(average))
    write(model, kept)
    model.train()
    assert torch.equal(flat(model), held)
    for net, each in ((model, optimizer), (twin, other)):
        fit(net, each, 3)
    # attach() moved to the evaluation weights and back once, for the copy.
    torch.testing.assert_close(flat(model), flat(twin), rtol=1e-9, atol=1e-12)


def test_our_own_average_beside_it_leaves_no_trace():
    (model, optimizer), (twin, other) = trained(ScheduleFreeAdamW), trained(ScheduleFreeAdamW)
    average = WeightAverage(model, Polyak())
    with pytest.warns(UserWarning, match="has an average of its own"):
        average.attach(optimizer)
    for net, each in ((model, optimizer), (twin, other)):
        fit(net, each, 2)
    with average.swap(model):
        model(X)
    for net, each in ((model, optimizer), (twin, other)):
        fit(net, each, 3)
    assert torch.equal(flat(model), flat(twin))


# -- constraints --------------------------------------------------------------------------------


def masks(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    weights = [p for p in model.parameters() if p.dim() == 2]
    return [(p, torch.rand(p.shape, generator=generator).double() < 0.5) for p in weights]


def mask_in_place(pairs: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for p, mask in pairs:
            p.mul_(mask)


def mask_data(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for p, mask in pairs:
        p.data.mul_(mask)


@every_average
@pytest.mark.parametrize("prune", [mask_in_place, mask_data])
def test_pruned_weights_are_zero_where_the_model_is_evaluated(make, prune):
    model = network()
    pairs = masks(model)
    optimizer = make(model.parameters())
    fit(model, optimizer, 8, then=lambda: prune(pairs))
    with optimizer.evaluation_weights():
        assert not any(p[~mask].any() for p, mask in pairs)
        assert all(p[mask].all() for p, mask in pairs)


@every_average
def test_pruned_weights_that_hardly_move_are_zero_too(make):
    weight = nn.Parameter(torch.ones(64))
    optimizer = make([weight])
    for _ in range(40):
        optimizer.zero_grad()
        loss = (weight * torch.linspace(0, 1, 64) - 1).square().sum()
        loss.backward()
        weight.grad[:32] *= 1e-12  # pyright: ignore[reportOptionalSubscript]
        take_step(optimizer, loss)
        with torch.no_grad():
            weight[:32] = 0
    with optimizer.evaluation_weights():
        assert not weight[:32].any()


@every_average
def test_pruning_once_leaves_the_other_weights_alone(make):
    (model, optimizer), (twin, other) = trained(make), trained(make)
    pairs = masks(model)
    mask_in_place(pairs)
    at_x, expected = evaluated(model, optimizer), evaluated(twin, other)
    assert torch.equal(at_x[at_x != 0], expected[at_x != 0])
    assert (at_x == 0).sum() == sum((~mask).sum() for _, mask in pairs)


def clamp(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.clamp_(-0.1, 0.1)


def unit_rows(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.div_(p.norm(dim=1, keepdim=True))


def largest_row(model: nn.Module) -> float:
    return max((p.norm(dim=1) - 1).abs().max().item() for p in model.parameters() if p.dim() == 2)


@every_average
def test_weights_clamped_after_every_step_keep_to_it_where_they_are_evaluated(make):
    model = network()
    optimizer = make(model.parameters())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit(model, optimizer, 8, then=lambda: clamp(model))
    assert evaluated(model, optimizer).abs().max() <= 0.1
    assert ["project(fn)" in str(each.message) for each in told] == [True]


@every_average
def test_a_constraint_kept_up_by_hand_is_warned_of_once_and_the_way_named(make):
    model = network()
    optimizer = make(model.parameters())
    with pytest.warns(UserWarning, match=r"optimizer\.project\(fn\)") as told:
        fit(model, optimizer, 8, then=lambda: unit_rows(model))
    assert len(told) == 1
    assert largest_row(model) < 1e-12


CONSTRAINTS = {
    "mask": (lambda model: mask_in_place(masks(model)), None),
    "clamp": (clamp, lambda model: flat(model).abs().max() <= 0.1),
    "unit rows": (unit_rows, lambda model: largest_row(model) < 1e-12),
}


@every_method
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_projection_holds_where_the_model_is_evaluated(make, name):
    model = network()
    optimizer = make(model.parameters())
    fn, holds = CONSTRAINTS[name]
    fit(model, optimizer, 8, then=lambda: optimizer.project(lambda: fn(model)))
    with optimizer.evaluation_weights():
        if holds is None:
            assert not any(p[~mask].any() for p, mask in masks(model))
        else:
            assert holds(model)
    assert flat(model).isfinite().all()


@every_average
def test_weights_tied_by_a_projection_are_tied_where_they_are_evaluated(make):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)).double()
    optimizer = make(model.parameters())

    def tie() -> None:
        model[1].weight.copy_(model[0].weight)

    fit(model, optimizer, 10, then=lambda: optimizer.project(tie))
    with optimizer.evaluation_weights():
        torch.testing.assert_close(model[0].weight, model[1].weight, rtol=1e-12, atol=1e-14)


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_projection_that_changes_nothing_moves_no_bit(make, dtype, mode):
    if make is SelfTune and dtype == torch.bfloat16:
        pytest.skip("it exchanges x and y, of which bfloat16 rounds x")
    model = network().to(dtype)
    optimizer = make(model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for _ in range(3):
        take_step(optimizer, torch.ones(()))
    getattr(optimizer, mode)()
    before = copy.deepcopy((flat(model), optimizer.state_dict()["state"]))
    optimizer.project(lambda: None)
    after = flat(model), optimizer.state_dict()["state"]
    assert torch.equal(before[0], after[0])
    for i, state in before[1].items():
        assert all(
            torch.equal(value, after[1][i][name])
            for name, value in state.items()
            if isinstance(value, Tensor)
        )


# -- estimates ----------------------------------------------------------------------------------

ESTIMATES = {
    "Prodigy": Prodigy,
    "ScheduleFreeProdigy": ScheduleFreeProdigy,
    "DAdaptSGD": DAdaptSGD,
    "DAdaptAdaGrad": DAdaptAdaGrad,
}


@pytest.mark.parametrize("make", ESTIMATES.values(), ids=ESTIMATES.keys())
def test_d_does_not_grow_by_a_load(make):
    model, optimizer = trained(make, 40)
    load(model, network(seed=1))
    before = float(optimizer.param_groups[0]["d"])
    rest(model, optimizer)
    assert float(optimizer.param_groups[0]["d"]) == before
    assert float(optimizer.param_groups[0]["d_numerator"]) == 0  # its sum begins anew
    fit(model, optimizer, 3)
    assert float(optimizer.param_groups[0]["d"]) <= 3 * before


@pytest.mark.filterwarnings("ignore:parameters were written between the steps")
@pytest.mark.parametrize("constrain", [clamp, unit_rows, lambda m: mask_in_place(masks(m))])
@pytest.mark.parametrize("make", ESTIMATES.values(), ids=ESTIMATES.keys())
def test_d_does_not_run_away_under_a_constraint(make, constrain):
    model = network()
    optimizer = make(model.parameters())
    fit(model, optimizer, 100, then=lambda: constrain(model))
    assert float(optimizer.param_groups[0]["d"]) < 10
    assert evaluated(model, optimizer).isfinite().all()


@pytest.mark.filterwarnings("ignore:parameters were written between the steps")
@pytest.mark.parametrize("cls", [Prodigy, ScheduleFreeProdigy, DoG, LDoG, SelfTune])
def test_a_constraint_does_not_take_the_place_of_the_first_weights(cls):
    model = network()
    optimizer = cls(model.parameters())
    first = model[0].weight
    fit(model, optimizer, 5, then=lambda: unit_rows(model))  # until it is known to be one
    before = optimizer.state[first]["p0"].clone()
    fit(model, optimizer, 5, then=lambda: unit_rows(model))
    assert torch.equal(optimizer.state[first]["p0"], before)


@pytest.mark.parametrize("make", [ScheduleFreeAdamW, SelfTune])
def test_saving_while_other_weights_are_in_place_changes_nothing(make):
    ends = []
    for saves in (False, True):
        model, optimizer = trained(make)
        kept = copy.deepcopy(model)
        copy_in_place(model, network(seed=1))
        if saves:
            optimizer.state_dict()
        copy_in_place(model, kept)
        fit(model, optimizer, 3)
        ends.append(flat(model))
    assert torch.equal(*ends)


def test_weights_that_are_replaced_three_times_in_a_few_steps_are_warned_of():
    model = network()
    optimizer = ScheduleFreeAdamW(model.parameters())
    for _ in range(3):
        fit(model, optimizer, 5)
        with torch.no_grad():
            for p in model.parameters():
                p.normal_()
    with pytest.warns(UserWarning, match=r"again and again.*optimizer\.project\(fn\)"):
        fit(model, optimizer, 1)


def test_a_projection_of_a_parameter_without_gradients_is_made_once():
    stepped, frozen = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer = ScheduleFreeAdamW([stepped, frozen])
    stepped.grad = torch.ones(3)
    optimizer.step()
    optimizer.project(lambda: (stepped.mul_(0.5), frozen.mul_(0.5)))
    assert torch.equal(frozen, torch.full((3,), 0.5))
