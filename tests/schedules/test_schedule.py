"""Properties of every schedule: its algebra, JSON, and its place in torch's own scheduler."""

import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR

from selftune.schedules import (
    Schedule,
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

few = settings(max_examples=20)  # of each of many schedules

BUILDS = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "polynomial": lambda total: polynomial(total, 2.0, end=0.1),
    "rex": rex,
    "inverse_sqrt": lambda total: inverse_sqrt(10, total),
    "power": lambda total: power(5, 0.51, total),
    "wsd": wsd,
    "wsd 1-sqrt": lambda total: wsd(total, 0.5, "1-sqrt", end=0.1),
    "one_cycle": one_cycle,
    "step": lambda total: step(total, {0.5: 0.1, 0.75: 0.1}),
    "from_factors": lambda total: from_factors([0.5, 1.0, 0.25], end=0.0).resample(total),
    "then": lambda total: linear(2).then(wsd(3)).resample(total),
    "product": lambda total: cosine(total) * inverse_sqrt(7) * 0.5,
    "cut": lambda total: cosine(10).cut(6).resample(total),
}

every_schedule = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())
totals_and_warmups = st.integers(1, 300).flatmap(
    lambda total: st.tuples(st.just(total), st.integers(0, total))
)


@given(lengths=totals_and_warmups)
def test_linear_and_cosine_with_warm_up_are_these_formulas_to_the_last_bit(lengths):
    # Recorded targets of the benchmark were trained with these very numbers.
    total, warmup = lengths
    linears, cosines = linear(total).with_warmup(warmup), cosine(total).with_warmup(warmup)
    for t in range(total):
        if t < warmup:
            assert linears(t) == cosines(t) == (t + 1) / (warmup + 1)
        else:
            s = (t - warmup) / (total - warmup)
            assert linears(t) == 1 - s
            assert cosines(t) == (1 + math.cos(math.pi * s)) / 2


@every_schedule
@few
@given(lengths=totals_and_warmups)
def test_multipliers_lie_between_0_and_1(build, lengths):
    total, warmup = lengths
    factors = build(total).with_warmup(warmup).factors()
    assert len(factors) == total
    assert factors.min() >= 0
    assert factors.max() <= 1


@every_schedule
@few
@given(lengths=totals_and_warmups)
def test_after_the_last_step_the_multiplier_stays(build, lengths):
    total, warmup = lengths
    schedule = build(total).with_warmup(warmup)
    assert len({schedule(t) for t in range(total, total + 5)}) == 1


@every_schedule
def test_a_schedule_is_frozen_and_hashable(build):
    schedule = build(10)
    with pytest.raises(FrozenInstanceError):
        schedule.total_steps = 20
    assert hash(schedule) == hash(build(10))


@every_schedule
def test_copies_and_json_are_equal_to_the_schedule(build):
    schedule = build(10).with_warmup(2)
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert copy.deepcopy(schedule) == schedule
    assert Schedule.from_json(schedule.to_json()) == schedule
    assert schedule != build(10)
    assert schedule != build(11).with_warmup(2)


@every_schedule
def test_json_says_all_in_plain_numbers(build):
    text = build(10).with_warmup(2).to_json()
    assert json.loads(text)["total_steps"] == 10
    assert json.loads(text)["form"]["kind"] == "Warmup"


@every_schedule
def test_resampled_to_its_own_length_a_schedule_is_itself(build):
    schedule = build(20)
    assert schedule.resample(20) == schedule


@every_schedule
def test_lambda_lr_takes_a_schedule_as_it_is(build):
    schedule = build(10).with_warmup(2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = LambdaLR(optimizer, schedule)
    for t in range(13):
        assert optimizer.param_groups[0]["lr"] == 0.5 * schedule(t)
        optimizer.step()
        scheduler.step()


def test_lambda_lr_resumes_without_writing_into_the_schedule():
    # LambdaLR saves and overwrites the __dict__ of what it calls: there, 20 steps became 10.
    saved = LambdaLR(torch.optim.SGD([torch.zeros(1)]), linear(10)).state_dict()
    schedule = linear(20)
    LambdaLR(torch.optim.SGD([torch.zeros(1)]), schedule).load_state_dict(saved)
    assert schedule == linear(20)
    assert schedule(10) == 0.5


# -- warm-up ----------------------------------------------------------------------------------


def test_a_warm_up_rises_in_equal_steps_to_the_peak():
    assert [linear(20).with_warmup(3)(t) for t in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_a_warm_up_may_begin_above_zero():
    assert [constant(20).with_warmup(3, start=0.2)(t) for t in range(4)] == pytest.approx(
        [0.4, 0.6, 0.8, 1.0]
    )


def test_a_warm_up_leaves_the_end_where_it_was():
    schedule = cosine(10).with_warmup(4)
    assert schedule(9) > 0
    assert schedule(10) == 0
    assert schedule(7) == pytest.approx(0.5)  # half way from the peak at step 4


def test_a_warm_up_in_steps_stays_and_one_in_fractions_grows_with_the_run():
    assert linear(100).with_warmup(10).resample(1000) == linear(1000).with_warmup(10)
    assert linear(100).with_warmup(0.1).resample(1000)(99) == 100 / 101


def test_a_new_warm_up_replaces_the_old_one():
    assert linear(100).with_warmup(10).with_warmup(20) == linear(100).with_warmup(20)


def test_a_schedule_without_an_end_warms_up_too():
    schedule = inverse_sqrt(100).with_warmup(4)
    assert schedule(0) == pytest.approx(0.2)
    assert schedule(4) == 1.0
    assert schedule(304) == 0.5


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (linear(100), 0),
        (linear(100).with_warmup(10), 10),
        (linear(100).with_warmup(0.1), 10),
        (linear(100).with_warmup(0.1).resample(400), 40),
        (0.5 * linear(100).with_warmup(10), 10),
        (linear(100).with_warmup(10).with_cooldown(0.2), 10),
        (linear(100).with_warmup(0.1).cut(50), 10),
        (linear(100).with_warmup(10).cut(5), 5),
        (linear(100).with_warmup(0.1).then(linear(100)), 10),
        (inverse_sqrt(100).with_warmup(10), 10),
    ],
)
def test_a_schedule_knows_how_long_it_warms_up(schedule, steps):
    assert schedule.warmup_steps == steps


@pytest.mark.parametrize("warmup", [-1, 11, 1.5])
def test_a_warm_up_longer_than_the_schedule_is_refused(warmup):
    with pytest.raises(ValueError, match=rf"got {warmup}"):
        linear(10).with_warmup(warmup)


def test_resampling_below_the_warm_up_is_refused():
    with pytest.raises(ValueError, match=r"the length of a warm-up may be at most 5 .*, got 10;"):
        linear(100).with_warmup(10).resample(5)


def test_a_cooldown_has_to_fit_into_what_a_warm_up_leaves():
    with pytest.raises(ValueError, match=r"the length of a cooldown may be at most 6 .*, got 8;"):
        wsd(10, 8).with_warmup(4)


# -- other schedules from one -----------------------------------------------------------------


def test_then_goes_on_with_the_other_after_the_end():
    schedule = constant(8).then(linear(2))
    assert schedule.total_steps == 10
    assert schedule.factors().tolist() == [1] * 8 + [1, 0.5]
    assert np.array_equal(schedule.factors(), wsd(10, 0.2).factors())


def test_the_parts_of_a_sequence_keep_their_shares():
    schedule = linear(10).then(cosine(30)).resample(400)
    assert np.array_equal(schedule.factors()[:100], linear(100).factors())
    assert np.array_equal(schedule.factors()[100:], cosine(300).factors())


def test_a_product_multiplies_step_by_step():
    schedule = 0.5 * linear(10) * cosine(10)
    assert np.array_equal(schedule.factors(), 0.5 * linear(10).factors() * cosine(10).factors())


def test_a_cooldown_is_a_product_with_the_end_of_wsd():
    schedule = inverse_sqrt(10, 100).with_cooldown(0.2, "1-sqrt")
    expected = inverse_sqrt(10, 100).factors() * wsd(100, 0.2, "1-sqrt").factors()
    assert np.array_equal(schedule.factors(), expected)
    assert np.array_equal(constant(50).with_cooldown(10).factors(), wsd(50, 10).factors())


def test_cut_keeps_the_first_steps():
    assert np.array_equal(
        cosine(50).with_warmup(5).cut(20).factors(), cosine(50).with_warmup(5).factors()[:20]
    )


def test_lengths_may_be_numpy_numbers():
    assert linear(np.int64(10)).with_warmup(np.int32(2)) == linear(10).with_warmup(2)


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [0, -5, 2.5])
def test_a_total_that_is_not_a_positive_whole_number_is_refused(total):
    with pytest.raises(ValueError, match=f"total_steps must be a whole number .*got {total}"):
        linear(total)


def test_a_product_of_different_lengths_is_refused():
    with pytest.raises(ValueError, match="over 10 and 20 steps; resample one"):
        linear(10) * cosine(20)


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.factors(),
        lambda s: s.then(linear(10)),
        lambda s: s.with_cooldown(0.1),
        lambda s: s.bound(),
        lambda s: s.cut(5),
    ],
)
def test_what_needs_an_end_says_so_for_a_schedule_without_one(ask):
    with pytest.raises(ValueError, match=r"call resample\(total_steps\) first"):
        ask(inverse_sqrt(10))


def test_a_fraction_needs_an_end_too():
    with pytest.raises(ValueError, match="give total_steps"):
        constant().with_warmup(0.1)


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_a_factor_that_is_no_multiplier_is_refused(factor):
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        linear(10) * factor


@pytest.mark.parametrize("step", [0, 11])
def test_cutting_outside_the_run_is_refused(step):
    with pytest.raises(ValueError, match=rf"step must lie in \[1, total_steps=10\], got {step}"):
        linear(10).cut(step)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"total_steps": 10, "form": {}}',
        '{"total_steps": 10, "form": {"kind": "Magic"}}',
        '{"total_steps": 10, "form": {"kind": "Linear"}}',
        '{"total_steps": 10, "form": {"kind": "Linear", "end": "low"}}',
        '{"total_steps": 10, "form": {"kind": "Linear", "end": 2.0}}',
        '{"total_steps": 0, "form": {"kind": "Linear", "end": 0.0}}',
        '{"total_steps": null, "form": {"kind": "Linear", "end": 0.0}}',
        '{"total_steps": 5, "form": {"kind": "Table", "values": [], "end": 0.0}}',
        '{"total_steps": 5, "form": {"kind": "Table", "values": ["a"], "end": 0.0}}',
        '{"total_steps": 5, "form": {"kind": ["Linear"], "end": 0.0}}',
        '{"total_steps": 5, "form": {"kind": "Product", "one": 1.0, "other": 1.0}}',
        '{"total_steps": 5, "form": {"kind": "Warmup", "form": 5, "length": 1, "start": 0.0}}',
        '{"total_steps": 5, "form": {"kind": "Linear", "end": {"kind": "Linear", "end": 0.0}}}',
        '{"total_steps": [5], "form": {"kind": "Linear", "end": 0.0}}',
    ],
)
def test_text_that_is_no_schedule_gives_one_clear_error(text):
    with pytest.raises(ValueError, match=r"\w"):
        Schedule.from_json(text)


@pytest.mark.parametrize("share", [-0.5, 0, 1e-320, 2, math.nan, "half", None])
def test_a_share_that_a_sequence_or_a_cut_cannot_have_is_no_schedule(share):
    cut = linear(10).cut(5).to_dict()
    cut["form"]["share"] = share
    with pytest.raises(ValueError, match=r"not a schedule|share of a beginning"):
        Schedule.from_json(json.dumps(cut))
    both = linear(10).then(linear(10)).to_dict()
    both["form"]["share"] = share
    if share not in (0, 1e-320):
        with pytest.raises(ValueError, match=r"not a schedule|share of a sequence"):
            Schedule.from_json(json.dumps(both))


# -- pictures ---------------------------------------------------------------------------------


def test_plot_draws_one_line_a_schedule():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert linear(1000).plot(cosine(10), labels=("linear", "cosine"), ax=ax) is ax
    lines = ax.get_lines()
    assert [line.get_label() for line in lines] == ["linear", "cosine"]
    assert lines[0].get_ydata()[0] == 1
    assert lines[0].get_xdata()[-1] == 1
    assert lines[0].get_ydata()[-1] == 0


def test_plot_refuses_labels_of_another_number():
    with pytest.raises(ValueError, match="1 labels for 2 schedules"):
        linear(10).plot(cosine(10), labels=("linear",))


@pytest.mark.parametrize("schedule", [linear(10), linear(10).with_warmup(3), inverse_sqrt(10)])
def test_a_step_before_the_first_is_refused(schedule):
    with pytest.raises(ValueError, match="step must be 0 or more, got -1"):
        schedule(-1)


@pytest.mark.parametrize(
    "schedule",
    [
        polynomial(10, np.float32(2)),
        power(np.int64(5), np.float64(0.5)),
        step(10, {np.float64(0.5): np.float32(0.25)}),
        from_factors(np.ones(3), np.float32(0.5)),
        linear(10).with_warmup(3, np.float32(0.5)),
    ],
    ids=str,
)
def test_numbers_of_numpy_are_written_to_json(schedule):
    assert Schedule.from_json(schedule.to_json()) == schedule
