"""Refinement: the theorem's identities, robustness, and what the diagnostics say."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftune.optim import DAdaptAdam, Prodigy
from selftune.schedules import (
    GradientNorms,
    NormLog,
    Schedule,
    ScheduleLR,
    constant,
    cosine,
    linear,
    refine,
    wsd,
)


def falling(size: int, scale: float = 1.0) -> np.ndarray:
    """Norms that fall quickly at first, as of most networks, with noise."""
    s = np.arange(size) / size
    noise = np.random.default_rng(0).normal(0, 0.1, size)
    return scale * (1 + 4 * np.exp(-s / 0.02) + 0.5 * s) * np.exp(noise)


def log_of(norms: np.ndarray, **options) -> NormLog:
    return NormLog(np.arange(len(norms)), {"l2": norms}, **options)


# -- identities -------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [2, 3, 50, 1000])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("norm", [1e-200, 0.37, 1e200])
def test_constant_norms_refine_to_linear_decay(total, kind, norm):
    refined = refine(np.full(total, norm), kind=kind)
    # Exact, but for (T - t) / T and 1 - t / T, which differ in their last bit.
    assert refined.factors() == pytest.approx(linear(total).factors(), rel=0, abs=3e-16)
    assert refined(total) == 0
    assert refined.diagnostics.predicted_gain == pytest.approx(1)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_refined_then_resampled_is_resampled_then_refined(kind):
    fine = falling(20_000)
    coarse = np.exp(np.log(fine).reshape(-1, 10).mean(1))  # 2,000
    smooth_fine = np.repeat(coarse, 10)
    one = refine(smooth_fine, kind=kind).resample(2000).factors()
    other = refine(coarse, kind=kind).factors()
    assert np.abs(one - other).max() < 1e-3


@given(st.integers(2, 40), st.integers(0, 1000))
def test_the_last_iterate_is_the_average_of_the_dual_iterates(total, seed):
    # With gradients held fixed. x takes the refined steps from z's beginning; z takes steps w,
    # and is averaged with weights w, its last iterate counting like the one before.
    generator = np.random.default_rng(seed)
    refined = refine(generator.uniform(0.5, 2, total), smoothing=0)
    w, grads = refined.weights, generator.normal(size=(total, 3))
    z = np.concatenate([np.zeros((1, 3)), -np.cumsum(w[:, None] * grads, axis=0)])
    weights = np.append(w, w[-1])
    average = weights @ z / weights.sum()
    peak = (w * (np.cumsum(weights[::-1])[::-1][1:])).max() / weights.sum()
    x = -(peak * refined.factors()[:, None] * grads).sum(0)
    assert x == pytest.approx(average, rel=1e-12)


@pytest.mark.parametrize("build", [linear, cosine, lambda total: wsd(total, 0.2, "1-sqrt")])
def test_a_schedules_last_iterate_is_an_average_under_a_constant_lr(build):
    # The dual of any decay: weights c_t = h_t - h_{t+1} on the iterates of constant lr.
    schedule, generator = build(50), np.random.default_rng(0)
    grads = torch.from_numpy(generator.normal(size=(50, 4)))

    def iterates(schedule: Schedule) -> list[torch.Tensor]:
        p = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([p], lr=0.1)
        scheduler = ScheduleLR(optimizer, schedule)
        path = []
        for grad in grads:
            p.grad = grad
            optimizer.step()
            scheduler.step()
            path.append(p.detach().clone())
        return path

    merge = -np.diff(np.append(schedule.factors(), 0.0))
    average = (torch.from_numpy(merge)[:, None] * torch.stack(iterates(constant()))).sum(0)
    assert iterates(schedule)[-1] == pytest.approx(average, rel=1e-12)


@given(st.integers(0, 1000), st.sampled_from(["sgd", "adam"]))
def test_the_weights_minimize_the_theorems_bound(seed, kind):
    # (D^2 + sum w^2 Q) / (2 sum w), and here Q = 1 / w up to a factor: no other w is better.
    generator = np.random.default_rng(seed)
    norms = generator.uniform(0.3, 3, 30)
    q = norms ** (2 if kind == "sgd" else 1)
    w = refine(norms, kind=kind, smoothing=0).weights
    w = w / math.sqrt((w**2 * q).sum())  # D = 1: the best length

    def value(w):
        return (1 + (w**2 * q).sum()) / (2 * w.sum())

    for _ in range(20):
        assert value(w) <= value(w * np.exp(generator.normal(0, 0.1, 30))) + 1e-12


@given(st.floats(1e-150, 1e150))
def test_a_factor_of_the_norms_changes_nothing(factor):
    one, other = refine(falling(300)), refine(factor * falling(300))
    assert np.abs(one.factors() - other.factors()).max() < 1e-9


def test_falling_norms_give_a_warm_up_and_rising_norms_a_steep_end():
    factors = refine(falling(2000)).factors()
    assert factors[0] < 0.2
    assert 0.01 < np.argmax(factors) / 2000 < 0.15
    rising = refine(np.linspace(1, 3, 2000)).resample(100)
    assert rising(50) < 0.3
    assert rising.factors()[0] > 0.9


def test_a_longer_run_has_the_same_shape():
    norms = falling(1000)
    longer = refine(norms, total_steps=4000)
    assert longer.to_dict() == refine(norms).resample(4000).to_dict()


def test_a_refined_schedule_is_a_schedule():
    refined = refine(falling(200))
    assert Schedule.from_json(refined.to_json()).to_dict() == refined.to_dict()
    assert refined.with_warmup(20).total_steps == 200
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    ScheduleLR(optimizer, refined)
    assert optimizer.param_groups[0]["lr"] == 0.5 * refined(0)


# -- what is recorded is not always clean -----------------------------------------------------


def test_zeros_nans_and_infinities_are_bridged_and_counted():
    norms = falling(1000)
    broken = norms.copy()
    broken[[5, 300, 700]] = 0, math.nan, math.inf
    refined = refine(broken)
    assert np.abs(refined.factors() - refine(norms).factors()).max() < 0.02
    assert refined.diagnostics.num_unusable == 3
    assert any("3 of 1000 norms" in warning for warning in refined.diagnostics.warnings)


def test_a_few_spikes_leave_the_schedule_alone():
    norms = falling(1000)
    spiky = norms.copy()
    spiky[1 + np.random.default_rng(1).choice(999, 30, replace=False)] *= 1000
    # Three in a hundred move the median by a little; unsmoothed they would stop training.
    assert np.abs(refine(spiky).factors() - refine(norms).factors()).mean() < 0.01


@pytest.mark.parametrize(
    ("places", "value"), [([500], 1e-9), ([30, 400, 401, 998], 1000.0), ([20, 999], 0.01)]
)
@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_outliers_are_counted_and_warned_of(places, value, smoothing):
    norms = falling(1000)
    norms[places] *= value
    d = refine(norms, smoothing=smoothing).diagnostics
    assert d.num_outliers == len(places)
    assert d.num_unusable == 0
    assert any(f"{len(places)} of 1000 norms are 10 times" in warning for warning in d.warnings)
    assert f"{len(places)} outliers" in str(d)


def test_no_record_of_a_long_log_escapes_the_count_of_outliers():
    norms = falling(50_000)
    norms[10_000:10_005] *= 1000  # of which the sampled series holds two
    assert refine(norms).diagnostics.num_outliers == 5


def test_large_first_norms_steps_and_even_noise_are_no_outliers():
    norms = np.exp(np.random.default_rng(0).normal(0, 0.5, 1000))  # as of a batch of 8
    norms[5:15] *= 1000
    norms[500:] *= 100
    assert refine(norms).diagnostics.num_outliers == 0


def test_norms_logged_every_50_steps_give_the_schedule_of_all_steps():
    norms = falling(10_000)
    steps = np.arange(0, 10_000, 50)
    # What is logged of a smooth series; noise differs from sample to sample.
    smooth = 1 + 4 * np.exp(-np.arange(10_000) / 200)
    refined = refine(smooth[steps], steps=steps)
    assert refined.total_steps == 10_000
    assert np.abs(refined.factors() - refine(smooth).factors()).mean() < 0.01
    assert refine(norms[steps], steps=steps + 50).total_steps == 10_000


@pytest.mark.parametrize("lr", [0.0, math.nan])
def test_learning_rates_that_are_all_zero_or_empty_are_unknown(lr):
    norms = {"l1": falling(1000), "weight": np.linspace(1, 2, 1000)}
    log = NormLog(np.arange(1000), norms, weight_decay=0.1)
    d = refine(log, lrs=np.full(1000, lr)).diagnostics
    assert d == refine(log).diagnostics
    assert d.explained is not None
    assert d.lr_correlation is None


def test_a_long_log_is_sampled():
    refined = refine(falling(50_000))
    assert len(refined.weights) == 20_000
    assert refined.total_steps == 50_000


def test_weights_are_capped_where_norms_nearly_vanish():
    norms = np.ones(1000)
    norms[-200:] = 1e-9
    refined = refine(norms)
    assert refined.weights.max() / np.median(refined.weights) == pytest.approx(100)
    warnings = " ".join(refined.diagnostics.warnings)
    assert "cut to 100 times" in warnings
    assert "do not use it" in warnings


@pytest.mark.parametrize(
    ("norms", "options", "message"),
    [
        ([], {}, "holds no gradient norms"),
        ([1.0], {}, "at least 2 .* got 1 of 1"),
        ([0.0] * 10, {}, "positive and finite, got 0 of 10"),
        ([math.nan] * 10, {}, "got 0 of 10"),
        ([[1.0, 2.0]], {}, r"an array of shape \(1, 2\)"),
        ([math.nan] * 5 + [1.0] * 5, {}, "cover the steps 5 to 9 of 10: .* a whole run"),
        ([1.0] * 5 + [math.inf] * 5, {}, "cover the steps 0 to 4 of 10"),
        ([1.0] * 10, {"steps": range(100, 110)}, "steps 100 to 109 of 109"),
        ([1.0] * 10, {"steps": range(5)}, "10 values of l2 for 5 steps"),
        ([1.0] * 10, {"lrs": [1.0]}, "1 values of lrs"),
        ([1.0] * 10, {"smoothing": 0.6}, r"\[0, 0.5\], got 0.6"),
        ([1.0] * 10, {"kind": "lion"}, "kind is one of auto, sgd, adam, update, got 'lion'"),
        ([1.0] * 10, {"kind": "update"}, "needs update norms; the log has l2"),
        ([1.0] * 10, {"decouple": "yes"}, "decouple is one of"),
        ([1.0] * 10, {"decouple": "weight_norm"}, "the log has no weight norms"),
        ([1.0] * 10, {"decouple": "model"}, "give lrs= and a positive weight_decay="),
        ([1.0] * 10, {"total_steps": 0}, "total_steps must be a whole number"),
        ([1.0] * 10, {"warmup": -1}, r"warmup is a number of steps or a fraction .* got -1"),
        ([1.0] * 10, {"warmup": 10}, "warmup may be at most 9 steps here, got 10"),
        ([1.0] * 10, {"warmup": 1.0}, "warmup may be at most 9 steps here, got 10"),
        ([], {"warmup": 10}, "the log holds no gradient norms"),
        (
            [1.0] * 10,
            {"lrs": [1.0] * 10, "weight_decay": 1.0},
            "weight_decay 1.0 times the largest lr 1.0 must be below 1/2",
        ),
        ([1.0] * 10, {"lrs": [-1.0] * 10}, "lrs must be finite and not negative, got -1.0"),
        ([1.0] * 10, {"weight_decay": -0.1}, "weight_decay must be .* not negative, got -0.1"),
        ([1.0] * 10, {"lrs": [math.nan] * 10, "weight_decay": 0.1}, "lrs must be finite"),
        ([1.0] * 10, {"lrs": [0.0] * 10, "weight_decay": 0.1}, "not all zero"),
    ],
)
def test_a_log_that_gives_no_schedule_gives_one_clear_error(norms, options, message):
    with pytest.raises(ValueError, match=message):
        refine(norms, **options)


@pytest.mark.parametrize("path", ["norms.csv", Path("norms.csv")])
def test_the_path_of_a_log_is_told_how_to_be_loaded(path):
    message = r"refine\(\) takes a log, got the path 'norms.csv': write NormLog.load\(path\)"
    with pytest.raises(ValueError, match=message):
        refine(path)


def test_a_recorder_in_the_place_of_its_log_is_told():
    with GradientNorms(Prodigy([torch.ones(1)])) as recorder:
        message = r"takes a log, got the recorder GradientNorms: write recorder.log"
        with pytest.raises(ValueError, match=message):
            refine(recorder)


def test_steps_are_not_given_twice():
    with pytest.raises(ValueError, match="this log has its own"):
        refine(log_of(np.ones(10)), steps=np.arange(10))


# -- diagnostics ------------------------------------------------------------------------------


def test_the_predicted_gain_is_that_of_the_bound():
    norms = np.linspace(1, 4, 1000)
    refined = refine(norms)
    # The theorem's bounds: D sqrt(mean G^2 / T) for equal weights, D / sqrt(sum G^-2) for ours.
    after = refined.smoothed[20:]
    expected = math.sqrt((after**2).mean() * (after**-2.0).mean())
    assert refined.diagnostics.predicted_gain == pytest.approx(expected)


def test_the_gain_of_a_spike_at_the_beginning_is_trimmed():
    norms = np.ones(1000)
    norms[:15] = 1e4
    assert refine(norms, smoothing=0).diagnostics.predicted_gain == 1


def test_norms_that_vanish_at_the_end_are_objected_to():
    d = refine(np.exp(-5 * np.arange(1000) / 1000)).diagnostics
    assert d.tail_share > 0.3
    assert d.peak_position > 0.6
    assert any("do not use it" in warning for warning in d.warnings)


def test_norms_that_begin_far_below_the_rest_are_warned_of():
    norms = np.concatenate([np.full(20, 0.05), np.ones(980)])
    refined = refine(norms, smoothing=0.01)
    assert refined(100) < 0.5 * refined(0)
    assert any("begins in a spike" in warning for warning in refined.diagnostics.warnings)


def test_with_a_warm_up_what_was_recorded_in_it_is_left_out():
    spiky = np.concatenate([np.full(20, 0.05), falling(980)])
    refined = refine(spiky, smoothing=0.01, warmup=20)
    after = refine(falling(980), smoothing=0.01)
    assert refined.to_dict() == after.resample(1000).with_warmup(20).to_dict()
    assert refined.diagnostics == after.diagnostics
    assert refined.places[0] == 0.02
    assert refined(19) < refined(20) == after(0)


COUNTED = range(1000), range(1, 1001), range(0, 1000, 5), range(5, 1001, 5)


@pytest.mark.parametrize("steps", COUNTED)
def test_no_record_of_a_warm_up_counts_however_a_program_counts(steps):
    spiky = np.concatenate([np.full(20, 0.05), np.ones(980)])
    log = NormLog(np.array(steps), {"l2": spiky[np.array(steps) - min(steps)]})
    refined = refine(log, smoothing=0.05, warmup=20)
    assert refined.total_steps == 1000
    assert np.allclose(refined.factors(), linear(1000).with_warmup(20).factors(), atol=1e-3)


@pytest.mark.parametrize("warmup", [10, 0.1])
def test_constant_norms_after_a_warm_up_give_linear_decay_after_it(warmup):
    refined = refine(np.ones(100), total_steps=400, warmup=warmup)
    assert refined.warmup_steps == (40 if warmup == 0.1 else 10)
    assert np.allclose(refined.factors(), linear(400).with_warmup(warmup).factors(), rtol=1e-12)


def test_norms_that_follow_the_learning_rate_are_objected_to():
    lrs = 1 - np.arange(1000) / 1000
    d = refine(lrs**-0.5, lrs=lrs).diagnostics
    assert d.lr_correlation is not None
    assert d.lr_correlation < -0.9
    assert any("echoes" in warning for warning in d.warnings)


def test_norms_of_their_own_are_not_objected_to():
    d = refine(falling(1000), lrs=1 - np.arange(1000) / 2000, kind="adam", weight_decay=0.0)
    assert d.diagnostics.decouple == "none"
    assert d.diagnostics.warnings == ()


def test_few_norms_are_objected_to():
    assert any("only 20 norms" in w for w in refine(np.ones(20)).diagnostics.warnings)


def test_even_noise_is_no_sign_of_instability():
    lrs = np.full(1000, 0.01)
    noise = np.random.default_rng(0).normal(0, 0.5, 1000)  # as of a batch of 8
    d = refine(np.exp(noise), lrs=lrs, weight_decay=0.1, kind="adam").diagnostics
    assert d.model_holds
    assert d.warnings == ()


def test_noise_in_one_part_of_the_run_is_a_sign_of_instability():
    noise = np.random.default_rng(0).normal(0, 0.05, 1000)
    noise[400:600] *= 10
    lrs = np.full(1000, 0.01)
    d = refine(np.exp(noise), lrs=lrs, weight_decay=0.1, kind="adam").diagnostics
    assert d.model_holds is False
    assert any("nearly unstable" in warning for warning in d.warnings)


def test_decoupling_that_makes_it_worse_is_objected_to():
    weight = np.linspace(1, 3, 1000)
    log = NormLog(np.arange(1000), {"l1": np.ones(1000), "weight": weight}, weight_decay=0.1)
    d = refine(log).diagnostics
    assert d.explained is not None
    assert d.explained < 0
    assert d.model_holds is False
    assert any("decouple='none'" in warning for warning in d.warnings)


def test_diagnostics_print_all_they_say():
    lrs = 0.01 * (1 - np.arange(1000) / 1000)
    d = refine(falling(1000), lrs=lrs, weight_decay=0.1, kind="adam").diagnostics
    text = str(d)
    for part in ("adam, norm^-1", "model", "predicted gain", "peak at", "correlation", "holds"):
        assert part in text
    assert text.count("warning:") == len(d.warnings)


# -- together with learning-rate-free optimizers ----------------------------------------------


@pytest.mark.parametrize("build", [Prodigy, DAdaptAdam])
def test_a_refined_shape_times_d_is_one_line(build):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 10, generator=generator, dtype=torch.float64)
    y = (x @ torch.randn(10, generator=generator, dtype=torch.float64)).sign()

    def train(schedule: Schedule) -> tuple[NormLog, float]:
        w = torch.zeros(10, dtype=torch.float64, requires_grad=True)
        optimizer = build([w])  # lr 1: steps of d
        scheduler = ScheduleLR(optimizer, schedule)  # the one line: steps of d times the shape
        with GradientNorms(optimizer) as recorder:
            for _ in range(300):
                optimizer.zero_grad()
                loss = torch.nn.functional.softplus(-y * (x @ w)).mean()
                loss.backward()
                optimizer.step()
                scheduler.step()
        return recorder.log, loss.item()

    log, _ = train(constant(300))
    refined = refine(log)
    again, loss = train(refined)
    assert again.lrs is not None
    assert np.array_equal(again.lrs, refined.factors())
    assert loss < 0.2  # of 0.69
