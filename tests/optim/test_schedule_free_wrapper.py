"""ScheduleFree around torch's optimizers, and around ours."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from contract import same, snapshot, weights
from contract import train as take_steps
from problems import Valley
from torch import Tensor
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook

from selftune import optim
from selftune.optim import DAdaptAdam, Prodigy, ScheduleFree, ScheduleFreeSGD

BASES: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.03),
    "AdamW(foreach)": lambda params: torch.optim.AdamW(params, lr=0.03, foreach=True),
    "RMSprop": lambda params: torch.optim.RMSprop(params, lr=0.03),
    "Adagrad": lambda params: torch.optim.Adagrad(params, lr=0.1),
    "Rprop": lambda params: torch.optim.Rprop(params, lr=0.03),
    "Adafactor": lambda params: torch.optim.Adafactor(params, lr=0.03),
    "Prodigy": lambda params: Prodigy(params),
    "DAdaptAdam": lambda params: DAdaptAdam(params, d0=1e-3),
}
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
SHAPES = [(3,), (2, 2), ()]
STEPS = 20


def wrapped(base, dtype: torch.dtype = torch.float64, **options) -> tuple[Valley, ScheduleFree]:
    problem = Valley.random(SHAPES, 0)
    params = [p.to(dtype).requires_grad_() for p in problem.start]
    problem.start[:] = params
    return problem, ScheduleFree(base(params), **options)


def train(problem: Valley, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        for p, g in zip(params, problem.gradients(problem.start), strict=True):
            p.grad = g.to(p.dtype)
        optimizer.step()


@every_base
def test_x_is_the_average_of_the_bases_iterates(base):
    problem, optimizer = wrapped(base, beta=0.9)
    alone = [p.detach().clone().requires_grad_() for p in problem.start]
    reference, history = base(alone), []
    for _ in range(STEPS):
        grads = problem.gradients(problem.start)
        for p, q, g in zip(problem.start, alone, grads, strict=True):
            p.grad, q.grad = g, g.clone()
        optimizer.step()
        reference.step()  # at z, with the gradients taken at y
        history.append(torch.cat([q.detach().flatten() for q in alone]))
        x = torch.stack(history).mean(0)
        y = torch.cat([p.detach().flatten() for p in problem.start])
        torch.testing.assert_close(y, 0.1 * history[-1] + 0.9 * x, rtol=1e-12, atol=1e-13)
    optimizer.eval()
    x = torch.cat([p.detach().flatten() for p in problem.start])
    torch.testing.assert_close(x, torch.stack(history).mean(0), rtol=1e-12, atol=1e-13)


def test_around_sgd_it_is_schedule_free_sgd():
    problem, optimizer = wrapped(BASES["SGD"], beta=0.8, r=1.5)
    twin = Valley.random(SHAPES, 0)
    ours = ScheduleFreeSGD([p.requires_grad_() for p in twin.start], lr=0.1, momentum=0.8, r=1.5)
    train(problem, optimizer)
    train(twin, ours)
    torch.testing.assert_close(problem.start, twin.start, rtol=1e-11, atol=1e-12)
    optimizer.eval()
    ours.eval()
    torch.testing.assert_close(problem.start, twin.start, rtol=1e-11, atol=1e-12)


def test_around_sgd_it_equals_the_schedulefree_packages_wrapper():
    schedulefree = pytest.importorskip("schedulefree")
    problem, twin = (Valley.random([(3,), (2, 2)], 0) for _ in range(2))  # it takes no 0-d ones
    params = [p.requires_grad_() for p in twin.start]
    optimizer = ScheduleFree(BASES["SGD"]([p.requires_grad_() for p in problem.start]))
    theirs = schedulefree.ScheduleFreeWrapper(BASES["SGD"](params), momentum=0.9)
    theirs.train()
    train(problem, optimizer)
    for _ in range(STEPS):
        for p, g in zip(params, twin.gradients(params), strict=True):
            p.grad = g
        theirs.step()
    torch.testing.assert_close(problem.start, params, rtol=1e-10, atol=1e-12)


@every_base
@pytest.mark.parametrize("at_evaluation_weights", [False, True])
def test_a_checkpoint_resumes_bit_for_bit(base, at_evaluation_weights):
    problem, optimizer = wrapped(base, torch.float32)
    train(problem, optimizer)
    if at_evaluation_weights:
        optimizer.eval()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other, resumed = wrapped(base, torch.float32)
    with torch.no_grad():
        for p, q in zip(problem.start, other.start, strict=True):
            q.copy_(p)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    other.generator.set_state(problem.generator.get_state())
    for each_problem, each in ((problem, optimizer), (other, resumed)):
        each.train()
        train(each_problem, each, 5)
    assert all(map(torch.equal, problem.start, other.start))
    for each in (optimizer, resumed):
        each.eval()
    assert all(map(torch.equal, problem.start, other.start))


@every_base
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_goes_on_identically(base, copied):
    problem, optimizer = wrapped(base, torch.float32)
    train(problem, optimizer, 5)
    grads = problem.gradients(problem.start)
    params, twin = copied((problem.start, optimizer))
    for p, q, g in zip(problem.start, params, grads, strict=True):
        p.grad, q.grad = g.float(), g.float()
    optimizer.step()
    twin.step()
    assert all(map(torch.equal, problem.start, params))
    assert twin.param_groups is twin.base.param_groups


def test_a_checkpoint_brings_its_beta_and_r():
    problem, optimizer = wrapped(BASES["SGD"], beta=0.7, r=2.0)
    train(problem, optimizer, 5)
    saved = copy.deepcopy(optimizer.state_dict())
    twin = Valley.random(SHAPES, 0)
    twin.start[:] = [p.detach().clone().requires_grad_() for p in problem.start]
    twin.generator.set_state(problem.generator.get_state())
    resumed = ScheduleFree(BASES["SGD"](twin.start))
    resumed.load_state_dict(saved)
    train(problem, optimizer, 5)
    train(twin, resumed, 5)
    assert all(map(torch.equal, problem.start, twin.start))


def test_a_checkpoint_without_beta_and_r_leaves_them_alone():
    params = [torch.ones(3, requires_grad=True) for _ in range(2)]
    base = torch.optim.SGD([{"params": [p]} for p in params], lr=0.1)
    saved = base.state_dict()
    optimizer = ScheduleFree(base, beta=0.8)
    optimizer.param_groups[1]["schedule_free_r"] = 2.0
    optimizer.load_state_dict(saved)
    assert [group["schedule_free_beta"] for group in base.param_groups] == [0.8, 0.8]
    assert [group["schedule_free_r"] for group in base.param_groups] == [0.0, 2.0]


def test_wrapped_again_a_base_has_the_new_beta():
    base = torch.optim.SGD([torch.ones(3, requires_grad=True)], lr=0.1)
    ScheduleFree(base, beta=0.8)
    assert ScheduleFree(base, beta=0.7).param_groups[0]["schedule_free_beta"] == 0.7


def test_an_added_group_may_have_its_own_beta_and_r():
    p, q = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = ScheduleFree(torch.optim.SGD([p], lr=0.1), beta=1.0)
    optimizer.add_param_group({"params": [q], "schedule_free_beta": 0.0})
    for _ in range(2):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        optimizer.step()
    assert p.tolist() == pytest.approx([0.85] * 3)  # x, the mean of the iterates .9 and .8
    assert q.tolist() == pytest.approx([0.8] * 3)  # z, the last of them
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\], got 2"):
        optimizer.add_param_group({"params": [torch.ones(1)], "schedule_free_beta": 2})
    assert len(optimizer.param_groups) == len(optimizer.base.param_groups) == 2


def test_it_is_an_optimizer_to_torch():
    problem, optimizer = wrapped(BASES["AdamW"])
    calls = []
    assert isinstance(optimizer, torch.optim.Optimizer)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    train(problem, optimizer, 2)
    schedule.step()
    assert calls == ["before", "after"] * 2
    assert optimizer.base.param_groups[0]["lr"] == 0.015
    optimizer.zero_grad()
    assert all(p.grad is None for p in problem.start)


def test_a_closure_is_evaluated_at_y_once():
    problem, optimizer = wrapped(BASES["AdamW"])
    train(problem, optimizer)
    y = [p.detach().clone() for p in problem.start]
    seen = []

    def closure() -> float:
        assert torch.is_grad_enabled()
        seen.append([p.detach().clone() for p in problem.start])
        return 7.0

    assert optimizer.step(closure) == 7.0
    assert len(seen) == 1
    assert all(map(torch.equal, seen[0], y))


def test_an_added_group_trains_and_late_parameters_start_their_own_average():
    problem, optimizer = wrapped(BASES["AdamW"])
    train(problem, optimizer)
    late = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer.add_param_group({"params": [late], "lr": 0.5})
    late.grad = torch.ones_like(late)
    optimizer.step()
    optimizer.eval()
    # AdamW's first step has length lr; x forgets the start at once.
    torch.testing.assert_close(late.detach(), torch.full_like(late, -0.5), rtol=1e-6, atol=0)


def test_parameters_without_a_gradient_and_frozen_groups_are_left_alone():
    first, second, third = (torch.ones(2, requires_grad=True) for _ in range(3))
    base = torch.optim.SGD([{"params": [first, second]}, {"params": [third], "lr": 0.1}], lr=0.1)
    optimizer = ScheduleFree(base)
    for step in range(6):
        first.grad = torch.ones_like(first)
        second.grad = third.grad = torch.ones_like(second) if step < 3 else None
        if step == 3:
            before = [p.detach().clone() for p in (second, third)]
            third.grad = torch.ones_like(third)
            base.param_groups[1]["lr"] = 0.0
        optimizer.step()
    assert torch.equal(second, before[0])
    torch.testing.assert_close(third.detach(), before[1])
    assert not torch.equal(first, second)


@every_base
def test_a_warm_up_may_begin_at_lr_0(base):
    # schedulefree's wrapper divides by the sum of the weights so far.
    problem, optimizer = wrapped(base)
    before = [p.detach().clone() for p in problem.start]
    (group,) = optimizer.param_groups
    peak, group["lr"] = group["lr"], 0.0
    train(problem, optimizer, 2)
    assert all(map(torch.equal, problem.start, before))
    group["lr"] = peak
    train(problem, optimizer)
    optimizer.eval()
    assert all(p.isfinite().all() for p in problem.start)
    assert not any(map(torch.equal, problem.start, before))


@every_base
@pytest.mark.parametrize("gradient", [0.0, 1.0])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_step_with_lr_0_leaves_nothing_behind(base, gradient, steps):
    (problem, optimizer), (twin, reference) = wrapped(base), wrapped(base)
    train(problem, optimizer, steps)
    train(twin, reference, steps)
    group = optimizer.param_groups[0]
    lr, group["lr"] = group["lr"], 0.0
    for p in problem.start:
        p.grad = torch.full_like(p, gradient)
    optimizer.step()
    assert all(optimizer.state[p] for p in problem.start)
    group["lr"] = lr
    train(problem, optimizer, 5)
    train(twin, reference, 5)
    assert all(map(torch.equal, problem.start, twin.start))


def test_weights_replaced_before_the_first_true_step_are_where_a_run_begins():
    problem, optimizer = wrapped(BASES["AdamW"])
    problem.start[0].grad = torch.zeros_like(problem.start[0])
    group = optimizer.param_groups[0]
    lr, group["lr"] = group["lr"], 0.0
    optimizer.step()
    with torch.no_grad():
        problem.start[0].fill_(100.0)
    optimizer.eval()
    optimizer.train()
    group["lr"] = lr
    train(problem, optimizer, 1)
    torch.testing.assert_close(
        problem.start[0], torch.full_like(problem.start[0], 100), rtol=0, atol=0.1
    )


def test_a_hook_for_the_steps_of_all_optimizers_runs_once_and_the_bases_own_hooks_run():
    calls = []
    problem, optimizer = wrapped(BASES["SGD"])
    optimizer.base.register_step_post_hook(lambda *_: calls.append("the base's"))
    hook = register_optimizer_step_post_hook(lambda which, *_: calls.append(which))
    try:
        train(problem, optimizer, 1)
    finally:
        hook.remove()
    assert calls == ["the base's", optimizer]


def test_switching_a_thousand_times_does_not_move_bfloat16_weights():
    problem, optimizer = wrapped(BASES["AdamW"], torch.bfloat16)
    train(problem, optimizer)
    y = [p.detach().clone() for p in problem.start]
    for _ in range(1000):
        optimizer.eval()
        optimizer.train()
    assert all(map(torch.equal, problem.start, y))


def test_bfloat16_weights_follow_an_average_that_moves_slowly():
    p = torch.full((1,), 1.0, dtype=torch.bfloat16, requires_grad=True)
    optimizer = ScheduleFree(torch.optim.SGD([p], lr=2**-9), beta=0.9)
    for _ in range(2000):
        p.grad = torch.ones_like(p) if p.grad is None else -p.grad
        optimizer.step()
    x = optimizer.state[p]["schedule_free_x"]
    assert x.dtype == torch.float32
    assert abs(x.item() - 1) < 2**-8


def test_a_step_at_the_evaluation_weights_is_refused():
    problem, optimizer = wrapped(BASES["SGD"])
    train(problem, optimizer, 1)
    with optimizer.evaluation_weights(), pytest.raises(RuntimeError, match=r"train\(\) first"):
        optimizer.step()
    optimizer.step()


@pytest.mark.parametrize(
    "base",
    [
        lambda params: torch.optim.LBFGS(params),
        lambda params: ScheduleFreeSGD(params),
        lambda params: ScheduleFree(torch.optim.SGD(params, lr=0.1)),
    ],
)
def test_a_base_that_cannot_be_wrapped_is_refused(base):
    with pytest.raises(ValueError, match="ScheduleFree cannot wrap"):
        wrapped(base)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"beta": 1.5}, r"beta must lie in \[0, 1\]"), ({"r": -1.0}, r"r must lie in \[0, inf\)")],
)
def test_an_option_out_of_range_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        wrapped(BASES["SGD"], **options)


@pytest.mark.parametrize("base", [torch.optim.AdamW, [torch.ones(1)], torch.nn.Linear(1, 1)])
def test_what_is_no_optimizer_is_refused_with_the_right_form(base):
    with pytest.raises(ValueError, match=r"takes an optimizer, got .*ScheduleFree\(torch"):
        ScheduleFree(base)


@every_base
def test_a_gradient_that_is_not_finite_changes_nothing(base):
    (problem, optimizer), (twin, reference) = wrapped(base), wrapped(base)
    train(problem, optimizer, 3)
    train(twin, reference, 3)
    problem.start[0].grad = torch.full_like(problem.start[0], float("nan"))
    with pytest.warns(UserWarning, match="skipped a step"):
        optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == 1
    train(problem, optimizer, 3)
    train(twin, reference, 3)
    assert all(map(torch.equal, problem.start, twin.start))
    optimizer.eval()
    reference.eval()
    assert all(map(torch.equal, problem.start, twin.start))


@pytest.mark.parametrize("lr", [float("nan"), -1.0])
def test_an_lr_that_is_set_out_of_range_in_mid_run_is_refused(lr):
    problem, optimizer = wrapped(BASES["AdamW"])
    train(problem, optimizer, 1)
    optimizer.param_groups[0]["lr"] = lr
    with pytest.raises(ValueError, match=r"lr must lie in \[0, inf\)"):
        train(problem, optimizer, 1)


def test_a_state_that_was_not_grown_with_its_parameter_is_named():
    problem, optimizer = wrapped(BASES["SGD"])
    train(problem, optimizer, 1)
    p = problem.start[0]
    q = torch.zeros(5, dtype=p.dtype, requires_grad=True)
    optimizer.param_groups[0]["params"][0] = q
    optimizer.own[q] = optimizer.own.pop(p)
    q.grad = torch.ones_like(q)
    with pytest.raises(ValueError, match=r"the state 'x' .* \(3,\), but should have \(5,\)"):
        optimizer.step()


@pytest.mark.parametrize("base", [BASES["AdamW"], BASES["Prodigy"]], ids=["AdamW", "Prodigy"])
def test_its_state_takes_writes(base):
    problem, optimizer = wrapped(base)
    train(problem, optimizer, 3)
    first, second, third = problem.start
    kept = copy.deepcopy(dict(optimizer.state[first]))
    optimizer.state[first]["schedule_free_z"] = torch.zeros_like(first)
    assert not optimizer.own[first]["z"].any()
    optimizer.state[first].update(kept)
    assert torch.equal(optimizer.own[first]["z"], kept["schedule_free_z"])
    assert optimizer.state.pop(first).keys() == kept.keys()
    assert first not in optimizer.own
    assert first not in optimizer.base.state
    optimizer.state[first] = kept
    assert optimizer.state[first].keys() == kept.keys()
    del optimizer.state[second]
    assert set(optimizer.state) == {first, third}
    with pytest.raises(KeyError):
        del optimizer.state[second]
    optimizer.state.clear()
    assert not optimizer.own
    train(problem, optimizer, 3)
    optimizer.state = {}
    assert not optimizer.base.state
    train(problem, optimizer, 3)
    assert all(p.isfinite().all() for p in problem.start)


OTHER_STATES = {
    "torch's SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "torch's Adagrad": torch.optim.Adagrad,
    "Prodigy": optim.Prodigy,
    "ScheduleFreeAdamW": optim.ScheduleFreeAdamW,
    "ScheduleFree around ours": lambda params: ScheduleFree(optim.AdamW(params)),
}


@pytest.mark.parametrize("theirs", OTHER_STATES.values(), ids=OTHER_STATES.keys())
def test_the_state_of_another_base_is_refused_and_changes_nothing(theirs):
    others, params = weights(), weights()
    other = theirs(others)
    take_steps(other, range(2))
    optimizer = ScheduleFree(torch.optim.AdamW(params))
    take_steps(optimizer, range(2))
    before = snapshot(optimizer, params)
    with pytest.raises(ValueError, match="not of ScheduleFree around torch's AdamW"):
        optimizer.load_state_dict(other.state_dict())
    assert same(snapshot(optimizer, params), before)


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("prodigyopt", "Prodigy"),
        ("dadaptation", "DAdaptAdam"),
        ("dadaptation", "DAdaptAdan"),
        ("schedulefree", "AdamWScheduleFree"),
        ("pytorch_optimizer", "AdaBelief"),
    ],
)
def test_a_state_of_another_package_is_refused_and_changes_nothing(package, name):
    other = getattr(pytest.importorskip(package), name)(weights())
    getattr(other, "train", lambda: None)()
    take_steps(other, range(2))
    params = weights()
    optimizer = ScheduleFree(torch.optim.AdamW(params))
    take_steps(optimizer, range(2))
    before = snapshot(optimizer, params)
    with pytest.raises(ValueError, match=r"not (of|those of) .*torch's AdamW"):
        optimizer.load_state_dict(other.state_dict())
    assert same(snapshot(optimizer, params), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.AdamW(p, amsgrad=True),
        lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.5),
        torch.optim.Adagrad,
        torch.optim.Adafactor,
        torch.optim.Rprop,
        torch.optim.ASGD,
    ],
)
def test_its_own_state_loads_around_every_optimizer_of_torchs(make):
    others, params = weights(), weights()
    other, optimizer = ScheduleFree(make(others)), ScheduleFree(make(params))
    take_steps(other, range(2))
    hook = register_optimizer_step_post_hook(lambda *_: pytest.fail("it stepped"))
    try:
        optimizer.load_state_dict(other.state_dict())
    finally:
        hook.remove()
    assert same(optimizer.state_dict(), other.state_dict())


def test_a_state_of_another_shape_is_named_when_it_is_loaded_and_changes_nothing():
    def trained(rows: int) -> ScheduleFree:
        p = torch.nn.Parameter(torch.ones(rows, 2))
        optimizer = ScheduleFree(torch.optim.SGD([p], lr=0.1))
        p.grad = torch.ones_like(p)
        optimizer.step()
        return optimizer

    optimizer = trained(3)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"'x' of parameter 0 has the shape \(4, 2\).* \(3, 2\)"):
        optimizer.load_state_dict(trained(4).state_dict())
    assert str(optimizer.state_dict()) == str(before)
