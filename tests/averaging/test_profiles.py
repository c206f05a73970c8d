import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from iterates import average_of, noise, weights_of

from selftune.averaging import (
    EMA,
    LAWA,
    BlockLAWA,
    FromSchedule,
    Polyak,
    Polynomial,
    PowerEMA,
    Profile,
    Tail,
)
from selftune.schedules import cosine, linear

WEIGHTED = [
    EMA(half_life=7),
    EMA(horizon=12),
    EMA(horizon=1),
    EMA(half_life=9, start=6),
    Polyak(),
    Tail(),
    Polynomial(2.5),
    PowerEMA(0.1),
    PowerEMA(0.25, start=12),
    FromSchedule(linear(60)),
    FromSchedule(cosine(60).with_warmup(6)),
]
PROFILES = [*WEIGHTED, LAWA(5, every=2), LAWA(3, every=1), BlockLAWA(4, every=3)]
every_profile = pytest.mark.parametrize("profile", PROFILES, ids=str)


def with_every(profile: Profile, every: int) -> Profile:
    options = {name: getattr(profile, name) for name in profile.__dataclass_fields__}
    if isinstance(profile, FromSchedule):
        options.pop("start")
    return type(profile)(**{**options, "every": every})


@every_profile
def test_weights_are_not_negative_and_add_up_to_one(profile):
    weights = weights_of(profile, 60)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum().item(), 1.0, rtol=1e-12, atol=0)


@every_profile
def test_weights_that_do_not_move_are_their_own_average(profile):
    iterates = torch.full((60, 2), 0.1, dtype=torch.float32)
    assert torch.equal(average_of(profile, iterates, total_steps=60), iterates[0])


@pytest.mark.parametrize("every", [1, 2, 3, 6])
@pytest.mark.parametrize("profile", WEIGHTED, ids=str)
def test_weights_folded_in_count_for_all_steps_since_the_fold_before(profile, every):
    if profile.start == 0.5:
        profile = Tail(start=30)
    each = weights_of(profile, 60)
    expected = torch.zeros_like(each)
    for t in range(profile.start + every, 61, every):
        expected[t - 1] = each[t - every : t].sum()
    expected /= expected.sum()
    torch.testing.assert_close(
        weights_of(with_every(profile, every), 60), expected, rtol=1e-10, atol=1e-14
    )


@given(
    profile=st.sampled_from([p for p in WEIGHTED if p.start != 0.5]),
    steps=st.lists(st.integers(1, 40), min_size=3, max_size=3).map(sorted),
)
def test_what_is_retained_multiplies_up(profile, steps):
    r, s, t = steps
    product = profile.retained(r, s) * profile.retained(s, t)
    assert profile.retained(r, t) == pytest.approx(product, rel=1e-12, abs=1e-300)
    assert profile.retained(0, t) == 0


# -- the exponential average ------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("half_life", [1, 5, 1000])
def test_the_debiased_ema_is_the_weighted_mean_of_what_it_saw(every, half_life):
    x = noise(40)
    age = torch.arange(39, -1, -1, dtype=torch.float64)
    weights = 0.5 ** (age / half_life)
    weights[torch.arange(1, 41) % every != 0] = 0
    expected = weights @ x / weights.sum()
    actual = average_of(EMA(half_life=half_life, every=every), x)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


def test_weights_halve_in_a_half_life():
    weights = weights_of(EMA(half_life=10), 60)
    torch.testing.assert_close(weights[10:] / 2, weights[:-10], rtol=1e-12, atol=0)


def test_a_horizon_has_the_age_and_the_spread_of_a_uniform_window():
    weights = weights_of(EMA(horizon=9), 300)
    age = torch.arange(299, -1, -1, dtype=torch.float64)
    assert (weights @ age).item() == pytest.approx((9 - 1) / 2)
    assert (weights @ weights).item() == pytest.approx(1 / 9)


def test_the_default_ema_has_a_horizon_of_one_percent():
    assert EMA() == EMA(horizon=0.01)
    assert EMA().in_steps(5000) == EMA(horizon=50)


# -- means over the whole run and its end -----------------------------------------------------


def test_polyak_is_the_mean_of_all():
    x = noise(25)
    torch.testing.assert_close(average_of(Polyak(), x), x.mean(0))


def test_tail_is_the_mean_of_the_last():
    x = noise(20)
    torch.testing.assert_close(average_of(Tail(), x, total_steps=20), x[10:].mean(0))
    torch.testing.assert_close(average_of(Tail(start=5), x), x[5:].mean(0))


def test_polynomial_weights_are_differences_of_powers():
    t = torch.arange(31, dtype=torch.float64) / 30
    torch.testing.assert_close(weights_of(Polynomial(3), 30), (t**4).diff())


def test_a_polynomial_of_power_0_is_the_mean_of_all():
    torch.testing.assert_close(weights_of(Polynomial(0), 30), weights_of(Polyak(), 30))


@pytest.mark.parametrize("every", [1, 7, 20, 100])
@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2])
def test_a_power_ema_has_its_mean_and_spread_whatever_every_is(sigma_rel, every):
    profile = PowerEMA(sigma_rel, every=every)
    weights = weights_of(profile, 1400)
    time = torch.arange(1, 1401, dtype=torch.float64) / 1400
    mean = (weights @ time).item()
    spread = (weights @ (time - mean) ** 2).sqrt().item()
    # A fold stands for the `every` steps up to it: half of them too late on the average.
    assert mean - every / 2800 == pytest.approx(
        (profile.gamma + 1) / (profile.gamma + 2), abs=0.1 * every / 1400 + 1e-3
    )
    assert spread == pytest.approx(sigma_rel, abs=0.2 * every / 1400 + 1e-3)


@pytest.mark.parametrize("every", [1, 7, 20, 100])
@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2])
def test_a_power_emas_mean_time_is_that_of_the_paper_for_every_every(sigma_rel, every):
    weights = weights_of(PowerEMA(sigma_rel, every=every), 1400)[every - 1 :: every]
    g = PowerEMA(sigma_rel).gamma
    t = torch.arange(0, 1401, every, dtype=torch.float64) / 1400
    # A fold stands for the time since the one before: the mean of t under t^g between the two.
    time = (g + 1) / (g + 2) * (t ** (g + 2)).diff() / (t ** (g + 1)).diff()
    assert (weights @ time).item() == pytest.approx((g + 1) / (g + 2), abs=1e-13)


def test_a_power_emas_width_is_that_of_its_gamma():
    for sigma_rel in (0.03, 0.05, 0.1, 0.2, 0.28):
        g = PowerEMA(sigma_rel).gamma
        assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(sigma_rel)


def test_a_power_ema_at_its_widest_is_the_mean_of_all():
    weights = weights_of(PowerEMA(12**-0.5), 30)
    torch.testing.assert_close(weights, weights_of(Polyak(), 30), rtol=1e-6, atol=0)


# -- the last snapshots -----------------------------------------------------------------------


@given(k=st.integers(1, 6), every=st.integers(1, 4), num_steps=st.integers(1, 60))
def test_lawa_is_the_mean_of_its_snapshots(k, every, num_steps):
    x = noise(max(num_steps, every))
    snapshots = x[every - 1 :: every][-k:]
    actual = average_of(LAWA(k, every=every), x)
    torch.testing.assert_close(actual, snapshots.mean(0), rtol=1e-12, atol=1e-14)


def test_lawas_running_sum_does_not_drift():
    x = 1000 + noise(3001, dtype=torch.float32)
    actual = average_of(LAWA(7, every=1), x)
    # 7 roundings of float32 since it was last made afresh; without that there are 3,000.
    torch.testing.assert_close(actual, x[-7:].mean(0), rtol=0, atol=7 * 1000 * 2**-24)


@given(k=st.integers(1, 6), every=st.integers(1, 3), num_steps=st.integers(1, 60))
def test_block_lawa_is_the_mean_of_the_last_full_block_and_what_came_since(k, every, num_steps):
    x = noise(max(num_steps, every))
    snapshots = x[every - 1 :: every]
    expected = snapshots[-(k + len(snapshots) % k) :].mean(0)
    actual = average_of(BlockLAWA(k, every=every), x)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


# -- lengths and what is refused --------------------------------------------------------------


def test_fractions_are_of_the_run():
    assert LAWA().in_steps(1000) == LAWA(10, every=2)
    assert EMA(half_life=0.25, start=0.1).in_steps(200) == EMA(half_life=50, start=20)
    assert PowerEMA(0.1, every=0.002).in_steps(30_000) == PowerEMA(0.1, every=60)
    assert FromSchedule(linear(50), every=0.1).in_steps(None).every == 5


def test_a_fraction_of_less_than_a_step_is_a_step():
    assert LAWA().in_steps(100).every == 1


def test_profiles_are_frozen():
    with pytest.raises(FrozenInstanceError):
        EMA().every = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_a_profile_without_a_rule_cannot_be_made():
    with pytest.raises(TypeError, match=r"abstract method '?fold"):
        Profile()  # pyright: ignore[reportAbstractUsage]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EMA(half_life=3, horizon=5), "half_life or horizon, got both: 3 and 5"),
        (lambda: EMA(horizon=0), "horizon of EMA must be an int of steps, at least 1.*got 0"),
        (lambda: EMA(half_life=1.5), "half_life of EMA must.*fraction of the run; got 1.5"),
        (lambda: EMA(half_life=math.nan), "half_life of EMA must.*got nan"),
        (lambda: Polyak(every=0), "every of Polyak must.*got 0"),
        (lambda: Tail(start=-1), "start of Tail must be an int of steps, at least 0.*got -1"),
        (lambda: Polynomial(-0.5), r"power must lie in \[0, inf\) for Polynomial, got -0.5"),
        (lambda: Polynomial(math.inf), "power must lie in.*got inf"),
        (lambda: PowerEMA(0.3), "sigma_rel must lie in.*got 0.3"),
        (lambda: PowerEMA(0.0), "sigma_rel must lie in.*got 0.0"),
        (lambda: Polyak(every="2"), "every of Polyak must.*got 2"),  # pyright: ignore
        (lambda: LAWA(0), "k of LAWA must be an int of snapshots, at least 1, got 0"),
        (lambda: LAWA(k=2.5), "k of LAWA must be an int.*got 2.5"),  # pyright: ignore
        (lambda: BlockLAWA(-2), "k of BlockLAWA must be an int.*got -2"),
        (lambda: FromSchedule(lambda step: 1.0), "FromSchedule needs total_steps="),
        (lambda: FromSchedule(lambda step: 0.0, 10), "not all 0"),
        (lambda: FromSchedule(lambda step: math.nan, 10), r"multipliers in \[0, inf\)"),
        (lambda: FromSchedule(lambda step: 1.0, 0), r"multipliers in \[0, inf\)"),
        (
            lambda: FromSchedule(lambda step: [1.0, 0.5, 0.7][step], 3),
            "falls after its peak, but it rises from 0.5 to 0.7 after step 1",
        ),
        (lambda: LAWA().in_steps(0), "total_steps must be at least 1, got 0"),
        (
            lambda: Tail(start=90, every=20).in_steps(100),
            "Tail would first take weights after step 110, but the run ends after 100",
        ),
        (lambda: LAWA().in_steps(None), "every=0.002 of LAWA is a fraction.*give total_steps"),
        (
            lambda: FromSchedule(linear(9)).in_steps(10),
            "total_steps is 10, but the schedule's is 9",
        ),
    ],
)
def test_bad_options_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("decay", "horizon"), [(0.9, 19), (0.999, 1999), (0.9999, 19999)])
def test_a_decay_in_the_place_of_a_length_is_told_its_horizon(decay, horizon):
    for wrong in (
        lambda: EMA(decay),
        lambda: EMA(half_life=decay),
        lambda: EMA(horizon=decay),
        lambda: EMA(decay=decay),
    ):
        with pytest.raises(ValueError, match=rf"EMA\(horizon={horizon}\) for a decay of {decay}"):
            wrong()
    assert EMA(horizon=horizon).retained(10**6, 10**6 + 1) == pytest.approx(decay)
