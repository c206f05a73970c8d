"""Checks around a step: options that were changed, decay, skips, misfits, hard numbers."""

from __future__ import annotations

import inspect
import math
import warnings

import pytest
import torch
from contract import (
    CLASSES,
    WRAPPED,
    backward,
    every_class,
    every_optimizer,
    same,
    take_step,
    train,
    twins,
    weights,
)
from torch import nn

from selftune import optim

AVERAGES = [cls for cls in CLASSES if cls.to_evaluation is not optim.Optimizer.to_evaluation]
averaging = pytest.mark.parametrize("cls", AVERAGES, ids=lambda cls: cls.__name__)


@every_class
@pytest.mark.parametrize("lr", [math.nan, -1.0, math.inf, None, "auto"])
def test_an_lr_that_is_set_out_of_range_in_mid_run_is_refused(cls, lr):
    params = weights()
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}])
    train(optimizer, range(2))
    before = twins(params)
    optimizer.param_groups[1]["lr"] = lr
    with pytest.raises(ValueError, match=r"lr must .* \(in param_groups\[1\]\)"):
        train(optimizer, range(2, 3))
    assert same([p.detach() for p in params], [p.detach() for p in before])
    optimizer.param_groups[1]["lr"] = 1.0
    train(optimizer, range(2, 4))


def test_a_momentum_that_a_scheduler_sets_to_0_is_refused_in_a_schedule_free_method():
    optimizer = optim.ScheduleFreeAdamW(weights(), betas=(0.9, 0.99))
    train(optimizer, range(2))
    optimizer.param_groups[0]["betas"] = (0.0, 0.99)
    with pytest.raises(ValueError, match=r"betas\[0\] must lie in \(0, 1\], got 0.0"):
        train(optimizer, range(2, 3))


def test_an_option_of_the_one_estimate_that_a_later_group_changes_is_refused():
    params = weights()
    optimizer = optim.Prodigy([{"params": params[:2]}, {"params": params[2:]}])
    train(optimizer, range(2))
    optimizer.param_groups[1]["d_coef"] = 2.0
    with pytest.raises(ValueError, match="d_coef must be the same in all groups"):
        train(optimizer, range(2, 3))


def test_an_option_that_no_rule_reads_is_refused_when_it_is_set_in_mid_run():
    optimizer = optim.Prodigy(weights())
    train(optimizer, range(2))
    optimizer.param_groups[0]["maximize"] = True
    with pytest.raises(ValueError, match="maximize is always False in Prodigy"):
        train(optimizer, range(2, 3))


@averaging
def test_a_decaying_schedule_around_an_averaging_method_is_remarked_on_once(cls):
    optimizer = cls(weights())
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 8))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(8):
            train(optimizer, [step])
            decay.step()
    assert [w.filename.rpartition("/")[2] for w in told] == ["problem.py"]  # which steps
    assert f"{cls.__name__} averages in the place of a decaying schedule" in str(told[0].message)


@averaging
def test_a_warm_up_and_a_frozen_group_are_no_decay(cls):
    params = weights()
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}])
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
    for step in range(6):
        train(optimizer, [step])
        warm_up.step()
    optimizer.param_groups[1]["lr"] = 0.0
    train(optimizer, range(6, 8))


@every_class
def test_skips_in_a_row_are_reported_again_and_scattered_ones_are_not(cls):
    params = weights()
    optimizer = cls(params)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(40):
            backward(params, step)
            if step < 22 or step % 2:
                params[0].grad[0] = math.nan
            take_step(optimizer, 1.0)
    first, second = (str(w.message) for w in told)
    assert "skipped a step" in first
    assert f"{cls.__name__} has skipped 10 steps in a row" in second


@every_optimizer
@pytest.mark.parametrize(("loss", "what"), [(torch.ones(()), "Tensor"), (0.5, "float")])
def test_a_loss_in_the_place_of_the_closure_is_told_how_to_be_given(cls, loss, what):
    optimizer = cls(weights())
    message = rf"step\(\) takes a closure, got {what}: pass the loss as step\(loss=loss\)"
    with pytest.raises(ValueError, match=message):
        optimizer.step(loss)


@every_class
def test_a_state_that_was_not_grown_with_its_parameter_is_named(cls):
    # As Gaussian splatting densifies: the moments are grown, what else there is is not.
    p = torch.randn(4, 2, requires_grad=True)
    optimizer = cls([p])
    train(optimizer, range(1))
    state = optimizer.state.pop(p)
    q = torch.randn(6, 2, requires_grad=True)
    name = next(n for n, v in state.items() if getattr(v, "shape", None) == (4, 2))
    optimizer.param_groups[0]["params"][0] = q
    optimizer.state[q] = state
    where = r"param_groups\[0\]\['params'\]\[0\]"
    message = rf"the state '{name}' of {where} has the shape \(4, 2\), but should have \(6, 2\)"
    with pytest.raises(ValueError, match=message):
        train(optimizer, range(1, 2))


OF_ONE_DTYPE = (optim.DAdaptAdam, optim.DAdaptSGD, optim.NAdamW, optim.SelfTune)


@pytest.mark.parametrize("cls", [*OF_ONE_DTYPE, *WRAPPED[:1]], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_state_of_another_dtype_than_its_parameter_is_explained(cls, dtype):
    model = nn.ParameterList(weights(torch.float32))
    optimizer = cls(list(model))
    train(optimizer, range(2))
    model.to(getattr(torch, dtype))
    optimizer.zero_grad()
    where = r"param_groups\[0\]\['params'\]\[0\]"
    message = rf"the state of {where} is not that of .* dtype {dtype}, .*, or load its state again"
    with pytest.raises(ValueError, match=message):
        train(optimizer, range(2, 3))
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, range(2, 4))


WITH_EPS = [cls for cls in CLASSES if "eps" in inspect.signature(cls).parameters]


@pytest.mark.parametrize("cls", WITH_EPS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("eps", [0.0, 1e-60])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_an_eps_of_0_leaves_weights_without_a_gradient_where_they_are(cls, eps, compile):
    if eps == 0 and cls.__name__.startswith("DAdapt"):
        pytest.skip("refuses it")
    params = weights()
    optimizer = cls(params, eps=eps, compile=compile)
    before = params[0].detach()[0].clone()
    for step in range(4):
        backward(params, step)
        params[0].grad[0] = 0.0
        take_step(optimizer)
    assert all(p.isfinite().all() for p in params)
    torch.testing.assert_close(params[0].detach()[0], before, rtol=0.1, atol=0.1)


@every_class
def test_conjugate_and_negative_views_are_gradients_like_any_other(cls):
    params, others = weights(torch.complex64), weights(torch.complex64)
    optimizer, reference = cls(params), cls(others)
    real, other_real = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer.add_param_group({"params": [real]})
    reference.add_param_group({"params": [other_real]})
    for step in range(3):
        backward(others, step)
        for p, q in zip(params, others, strict=True):
            p.grad = q.grad.conj().resolve_conj().conj()
            assert p.grad.is_conj()
        real.grad = torch.ones(3, dtype=torch.complex64).conj().imag
        assert real.grad.is_neg()
        other_real.grad = real.grad.resolve_neg()
        take_step(optimizer, 1.0)
        take_step(reference, 1.0)
    assert same([*params, real], [*others, other_real])


def test_a_parameter_that_is_a_conjugate_view_is_refused():
    p = torch.randn(3, dtype=torch.complex64).conj().requires_grad_()
    with pytest.raises(ValueError, match="resolve_conj"):
        optim.AdamW([p])


SQUARES = (optim.DoG, optim.DoWG, optim.LDoG, optim.DAdaptSGD)  # their rule has the sum


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if cls not in SQUARES], ids=lambda cls: cls.__name__
)
def test_finite_gradients_whose_squares_add_up_to_infinity_make_a_step(cls):
    p = torch.ones(1000, requires_grad=True)
    optimizer = cls([p])
    for _ in range(3):
        p.grad = torch.full_like(p, 1e18)
        optimizer.step(loss=1e18)
    assert optimizer.param_groups[0]["skipped_steps"] == 0
    assert p.isfinite().all()


@pytest.mark.parametrize("cls", SQUARES)
def test_a_rule_of_the_gradients_norm_skips_a_step_where_that_is_infinite(cls):
    p = torch.ones(1000, requires_grad=True)
    optimizer = cls([p])
    train(optimizer, range(2))
    p.grad = torch.full_like(p, 1e18)
    before = p.detach().clone()
    with pytest.warns(UserWarning, match="skipped a step"):
        optimizer.step()
    assert torch.equal(p, before)
    assert all(v.isfinite().all() for v in optimizer.state[p].values() if torch.is_tensor(v))


@every_optimizer
def test_steps_that_find_no_gradient_are_reported_once_with_what_may_have_happened(cls):
    model = torch.nn.Linear(3, 2)
    optimizer = cls(model.parameters())
    model.load_state_dict(torch.nn.Linear(3, 2).state_dict(), assign=True)

    def train_on(steps):
        for _ in range(steps):
            loss = model(torch.ones(1, 3)).square().sum()
            loss.backward()
            take_step(optimizer, loss)

    train_on(9)
    with pytest.warns(UserWarning, match=r"no parameter of .* had a gradient in 10 steps") as told:
        train_on(20)
    assert len(told) == 1
    assert "load_state_dict(assign=True)" in str(told[0].message)
