"""The schedules by name, each against its formula or against torch's."""

import math

import numpy as np
import pytest
import torch

from selftune.schedules import (
    constant,
    cosine,
    from_factors,
    inverse_sqrt,
    linear,
    one_cycle,
    polynomial,
    power,
    rex,
    step,
    wsd,
)

cooldowns = pytest.mark.parametrize("shape", ["linear", "1-sqrt", "cosine"])


def torch_multipliers(scheduler: type, steps: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduled = scheduler(optimizer, **options)
    multipliers = []
    for _ in range(steps):
        multipliers.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduled.step()
    return multipliers


def test_constant_stays_at_the_peak_with_or_without_an_end():
    assert {constant(3)(t) for t in range(8)} == {constant()(t) for t in range(8)} == {1.0}


def test_linear_falls_in_a_straight_line():
    assert [linear(4)(t) for t in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]
    assert [linear(4, end=0.2)(t) for t in range(6)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_cosine_is_torchs_until_the_end():
    expected = torch_multipliers(torch.optim.lr_scheduler.CosineAnnealingLR, 50, T_max=50)
    assert cosine(50).factors() == pytest.approx(expected)
    assert cosine(50, end=0.1)(50) == pytest.approx(0.1)


def test_polynomial_is_torchs():
    options = {"total_iters": 50, "power": 2.0}
    expected = torch_multipliers(torch.optim.lr_scheduler.PolynomialLR, 50, **options)
    assert polynomial(50, 2.0).factors() == pytest.approx(expected)


def test_rex_is_the_papers_formula_and_begins_at_the_peak():
    s = np.arange(100) / 100
    assert rex(100).factors() == pytest.approx((1 - s) / (1 / 2 + (1 - s) / 2))
    assert rex(100)(0) == 1  # pytorch_optimizer's takes its first step at 0


def test_rex_without_beta_is_linear():
    assert np.array_equal(rex(30, beta=0).factors(), linear(30).factors())


def test_inverse_sqrt_falls_as_one_over_the_root():
    schedule = inverse_sqrt(100)
    assert [schedule(t) for t in (0, 300, 9900)] == [1, 0.5, 0.1]
    assert inverse_sqrt(100, 400).factors()[-1] == schedule(399)


def test_power_holds_the_peak_and_then_follows_its_law():
    schedule = power(100, 0.5)
    assert {schedule(t) for t in range(100)} == {1.0}
    assert schedule(399) == 0.5
    assert schedule(9999) == pytest.approx(0.1)


@cooldowns
def test_wsd_holds_the_peak_and_then_cools_down(shape):
    schedule = wsd(100, 0.2, shape)
    assert {schedule(t) for t in range(81)} == {1.0}
    u = np.arange(20) / 20
    heights = {
        "linear": 1 - u,
        "1-sqrt": 1 - np.sqrt(u),
        "cosine": (1 + np.cos(math.pi * u)) / 2,
    }
    assert schedule.factors()[80:] == pytest.approx(heights[shape])
    assert schedule(100) == pytest.approx(0)


@cooldowns
def test_a_cooldown_ends_at_its_end_and_never_below(shape):
    # pytorch_optimizer's 1-sqrt falls to .025 and then jumps to its least lr, .1.
    factors = wsd(1000, 0.5, shape, end=0.1).factors()
    assert factors.min() >= 0.1
    assert (np.diff(factors) <= 0).all()
    assert wsd(1000, 0.5, shape, end=0.1)(1000) == pytest.approx(0.1)
    assert factors[-1] == pytest.approx(0.1, abs=0.002)


def test_a_cooldown_in_steps_counts_them_with_warm_up_too():
    schedule = wsd(100, 30).with_warmup(10)
    assert {schedule(t) for t in range(10, 71)} == {1.0}
    assert schedule(85) == 0.5
    assert schedule.resample(1000)(985) == 0.5


def test_a_cooldown_over_the_whole_run_is_linear_decay():
    assert np.array_equal(wsd(30, 1.0).factors(), linear(30).factors())


def test_one_cycle_is_torchs_but_for_where_its_phases_end():
    options = {"max_lr": 1.0, "total_steps": 1000, "cycle_momentum": False}
    expected = torch_multipliers(torch.optim.lr_scheduler.OneCycleLR, 1000, **options)
    # torch's phases end one step earlier, a thousandth of the run.
    assert one_cycle(1000).factors() == pytest.approx(expected, abs=4e-3)
    assert one_cycle(1000)(0) == pytest.approx(expected[0])
    assert one_cycle(1000)(1000) == pytest.approx(expected[-1])


def test_step_multiplies_at_each_drop():
    assert step(4, {0.75: 0.1, 0.5: 0.5}).factors() == pytest.approx([1, 1, 0.5, 0.05])


def test_from_factors_gives_them_back():
    factors = np.random.default_rng(0).random(97)
    assert np.array_equal(from_factors(factors).factors(), factors)
    assert from_factors(factors)(97) == factors[-1]
    assert from_factors(factors, end=0.0)(97) == 0


def test_from_factors_resampled_lies_on_straight_lines():
    schedule = from_factors([1.0, 0.5], end=0.25)
    assert schedule.resample(8).factors().tolist() == [
        1,
        0.875,
        0.75,
        0.625,
        0.5,
        0.4375,
        0.375,
        0.3125,
    ]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: linear(10, end=1.5), r"end is a fraction of the peak in \[0, 1\], got 1.5"),
        (lambda: polynomial(10, 0), "power must be positive and finite, got 0"),
        (lambda: rex(10, beta=1), r"beta must lie in \[0, 1\), got 1"),
        (lambda: inverse_sqrt(0), "timescale must be positive"),
        (lambda: power(10, -0.5), "exponent must be positive"),
        (lambda: power(0, 0.5), "hold_steps must be positive"),
        (lambda: wsd(10, 11), "a cooldown may be at most 10 steps here, got 11; shorten it"),
        (lambda: wsd(10, 1.5), "number of steps or a fraction"),
        (lambda: wsd(10, 0.2, "sqrt"), "a cooldown is one of linear, 1-sqrt, cosine, got 'sqrt'"),
        (lambda: one_cycle(10, rise=1), r"rise must lie in \(0, 1\), got 1"),
        (lambda: step(10, {1.5: 0.1}), r"fractions of the run in \[0, 1\], got 1.5"),
        (lambda: step(10, {0.5: -0.1}), "the factor of a drop must be finite and at least 0"),
        (lambda: from_factors([]), "at least one multiplier, got none"),
        (lambda: from_factors([1.0, math.nan]), "must be finite and at least 0, got nan"),
    ],
)
def test_bad_options_are_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()
