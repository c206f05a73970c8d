"""Steps, and parameters that come and go."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_hooks

from benchmarks.conformance.problem import (
    Make,
    bowl,
    check,
    descend,
    give_gradients,
    loss_for,
    same,
    take_step,
    train,
    trained,
    twins,
    weights,
)


@check
def a_step_without_gradients_does_nothing(make: Make) -> None:
    params = weights()
    before = twins(params)
    make(params).step()
    assert same(params, before)


@check
def a_step_with_zero_gradients_does_nothing(make: Make) -> None:
    params = weights()
    before = twins(params)
    optimizer = make(params, **make.no_decay)
    for p in params:
        p.grad = torch.zeros_like(p)
    for _ in range(3):
        take_step(optimizer)
    assert same(params, before)


@check
def the_loss_goes_down(make: Make) -> None:
    params = weights()
    descend(make(params), params)


@check
def the_loss_goes_down_under_schedulers(make: Make) -> None:
    params = weights()
    optimizer = make(params)
    warmup = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=20)
    descend(optimizer, params, [warmup, lr_scheduler.ExponentialLR(optimizer, 0.999)])


@check
def groups_may_differ_in_lr(make: Make) -> None:
    params = weights()
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.5 * make.lr}]
    before = twins(params)
    descend(make(groups), params)
    assert not any(map(torch.equal, params, before))


@check
def groups_may_differ_in_weight_decay(make: Make) -> None:
    params = weights()
    groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.01}]
    descend(make(groups, **make.no_decay), params)


@check
def a_group_may_be_empty(make: Make) -> None:
    params, others = weights(torch.float64), weights(torch.float64)
    optimizer, other = make([{"params": []}, {"params": params}]), make(others)
    train(optimizer, range(5))
    train(other, range(5))
    torch.testing.assert_close(params, others)


@check
def how_parameters_are_grouped_does_not_matter(make: Make) -> None:
    together, apart = weights(torch.float64), weights(torch.float64)
    for optimizer in (make(together), make([{"params": [p]} for p in apart])):
        train(optimizer, range(20))
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-12)


@check
def lr_may_be_a_tensor(make: Make) -> None:
    params, others = weights(torch.float64), weights(torch.float64)
    lr = torch.tensor(make.lr, dtype=torch.float64)
    optimizer, other = make(params, lr=lr), make(others, lr=make.lr)
    train(optimizer, range(5))
    train(other, range(5))
    lr.mul_(0.5)
    other.param_groups[0]["lr"] *= 0.5
    train(optimizer, range(5, 10))
    train(other, range(5, 10))
    assert optimizer.param_groups[0]["lr"] is lr
    torch.testing.assert_close(params, others)


@check
def complex_parameters_train_as_their_real_views(make: Make) -> None:
    p = torch.randn(3, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    p.requires_grad_()
    real = torch.view_as_real(p.detach().clone()).requires_grad_()
    optimizers = make([p]), make([real])
    for step in range(10):
        give_gradients([real], step)
        assert real.grad is not None
        p.grad = torch.view_as_complex(real.grad.clone())
        for optimizer in optimizers:
            take_step(optimizer)
    torch.testing.assert_close(torch.view_as_real(p.detach()), real.detach())


@check
def parameters_of_several_types_train_together(make: Make) -> None:
    params = [*weights(torch.float32), *weights(torch.float64)]
    before = twins(params)
    train(make(params), range(10))
    assert all(p.isfinite().all() for p in params)
    assert not any(map(torch.equal, params, before))


@check
def another_default_type_is_no_matter(make: Make) -> None:
    expected = trained(make)[1]
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        params = trained(make)[1]
    finally:
        torch.set_default_dtype(default)
    torch.testing.assert_close(params, expected)


@check
def a_negative_lr_is_refused(make: Make) -> None:
    try:
        make(weights(), lr=-1.0)
    except Exception:
        return
    raise AssertionError("lr=-1 is taken")


@check
def gradients_are_not_written(make: Make) -> None:
    optimizer, params = trained(make)
    give_gradients(params, 5)
    before = [p.grad.clone() for p in params if p.grad is not None]
    take_step(optimizer)
    assert same([p.grad for p in params], before)


@check
def a_closure_runs_with_gradients_and_its_loss_is_returned(make: Make) -> None:
    params = weights()
    optimizer = make(params)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = bowl(params)
        loss.backward()
        return loss

    expected = bowl(params)
    with torch.no_grad():
        assert torch.equal(optimizer.step(closure), expected)


@check
def nothing_is_read_back_to_the_host(make: Make) -> None:
    params = weights(device="meta")
    optimizer = make(params)
    for _ in range(3):
        for p in params:
            p.grad = torch.empty_like(p)
        take_step(optimizer)


@check
def hooks_run_in_torchs_order(make: Make) -> None:
    calls: list[str] = []
    optimizer = make(weights())
    hooks = [
        torch_hooks.register_optimizer_step_pre_hook(lambda *_: calls.append("global pre")),
        torch_hooks.register_optimizer_step_post_hook(lambda *_: calls.append("global post")),
        optimizer.register_step_pre_hook(lambda *_: calls.append("pre")),
        optimizer.register_step_post_hook(lambda *_: calls.append("post")),
    ]
    try:
        train(optimizer, range(1))
    finally:
        for hook in hooks:
            hook.remove()
    assert calls == ["global pre", "pre", "post", "global post"]


@check
def a_step_in_the_backward_pass_is_a_step(make: Make) -> None:
    params, others = weights(), weights()
    optimizers = {p: make([p]) for p in params}
    by_hand = [make([p]) for p in others]
    for p in params:
        p.register_post_accumulate_grad_hook(lambda p: take_step(optimizers[p]))
    for _ in range(3):
        bowl(params).backward()
        bowl(others).backward()
        for optimizer in by_hand:
            take_step(optimizer)
        for p in (*params, *others):
            p.grad = None
    assert same(params, others)


def _has_momentum(optimizer: Any) -> bool:
    return bool({"betas", "momentum"} & optimizer.defaults.keys())


SCHEDULERS: list[Callable[[Any], Any]] = [
    lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    lambda o: lr_scheduler.StepLR(o, 2),
    lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    lambda o: lr_scheduler.ConstantLR(o),
    lambda o: lr_scheduler.LinearLR(o),
    lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    lambda o: lr_scheduler.PolynomialLR(o, 10),
    lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10, cycle_momentum=_has_momentum(o)),
    lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=_has_momentum(o)),
    lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
]


@check
def all_schedulers_work(make: Make) -> None:
    for scheduler in SCHEDULERS:
        params = weights()
        optimizer = make(params)
        plan = scheduler(optimizer)
        for step in range(8):
            train(optimizer, [step])
            plan.step(*[1.0] if isinstance(plan, lr_scheduler.ReduceLROnPlateau) else [])
        assert all(p.isfinite().all() for p in params)


@check
def a_compiled_step_is_at_most_two_graphs_and_the_same_step(make: Make) -> None:
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    params, others = weights(), weights()
    optimizer, other = make(params), make(others)
    step = torch.compile(optimizer.step, backend=backend)
    early = 0
    for number in range(8):
        give_gradients(params, number)
        give_gradients(others, number)
        step(**loss_for(optimizer))
        take_step(other)
        early = len(graphs) if number == 3 else early
    torch._dynamo.reset()
    assert early <= 2
    assert len(graphs) == early
    torch.testing.assert_close(params, others)


# -- parameters that come and go ----------------------------------------------------------------


@check
def a_group_added_in_mid_run_trains(make: Make) -> None:
    params = weights()
    optimizer = make(params[:2])
    train(optimizer, range(5))
    optimizer.add_param_group({"params": params[2:]})
    before = twins(params)
    train(optimizer, range(5, 10))
    assert not any(map(torch.equal, params, before))


@check
def parameters_may_be_frozen_and_unfrozen(make: Make) -> None:
    params = weights()
    optimizer = make(params)
    for step in range(15):
        give_gradients(params, step)
        before = params[0].clone()
        if 5 <= step < 10:
            params[0].grad = None
        take_step(optimizer)
        assert torch.equal(params[0], before) == (5 <= step < 10) or step < 5
    assert all(p.isfinite().all() for p in params)


@check
def a_late_first_step_is_no_larger_than_another(make: Make) -> None:
    early, late = (torch.zeros(3, requires_grad=True) for _ in range(2))
    optimizer = make([early, late], **make.no_decay)
    largest = 0.0
    for step in range(1000):
        early.grad = torch.full((3,), (-1.0) ** step)
        before = early.detach().clone()
        take_step(optimizer)
        largest = max(largest, (early - before).abs().max().item())
    late.grad = torch.ones(3)
    take_step(optimizer)
    assert late.abs().max().item() <= 2 * largest


@check
def a_scaler_skips_a_step_without_a_trace(make: Make) -> None:
    optimizer, params = trained(make)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    before = copy.deepcopy((optimizer.state_dict(), params))
    optimizer.zero_grad()
    scaler.scale(bowl(params) * torch.inf).backward()
    scaler.step(optimizer, **loss_for(optimizer))
    scaler.update()
    assert same((optimizer.state_dict(), params), before)
    assert scaler.get_scale() == 1.0
