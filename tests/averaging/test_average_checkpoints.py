import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from iterates import Weights, follow, noise
from runs import every_profile, network, same, trained
from torch import nn

from selftune.averaging import EMA, LAWA, FromSchedule, Polyak, PowerEMA, Tail, WeightAverage
from selftune.schedules import step


@every_profile
@given(stop=st.integers(0, 9))
@settings(max_examples=5)
def test_a_checkpoint_resumes_bit_for_bit(profile, stop):
    x = noise(9, dtype=torch.bfloat16)
    whole = follow(profile, x)
    model = Weights(x[0])
    first = WeightAverage(model, profile)
    for weights in x[:stop]:
        model.set(weights)
        first.update()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = WeightAverage(model, profile)
    second.load_state_dict(torch.load(file, weights_only=True))
    for weights in x[stop:]:
        model.set(weights)
        second.update()
    assert same(second.state_dict(), whole.state_dict())


def test_a_checkpoint_taken_inside_swap_is_that_of_the_average():
    model, average = trained(EMA(half_life=3))
    state = copy.deepcopy(average.state_dict())
    with average.swap(model):
        inside = average.state_dict()
        assert same(inside, state)
    assert same(inside, state)


@pytest.mark.parametrize(
    ("other", "unlike"),
    [
        (EMA(half_life=4), "has half_life=3, this one half_life=4:"),
        (EMA(horizon=3), "has half_life=3, horizon=None, this one half_life=None, horizon=3:"),
        (EMA(half_life=3, every=2), "has every=1, this one every=2:"),
        (Polyak(), "has kind='EMA', half_life=3, horizon=None, this one kind='Polyak':"),
        (LAWA(2, every=1), "this one kind='LAWA', k=2:"),
    ],
    ids=str,
)
def test_resuming_with_another_profile_is_refused_and_loses_nothing(other, unlike):
    _, average = trained(EMA(half_life=3))
    changed = trained(other)[1]
    before = copy.deepcopy(changed.state_dict())
    with pytest.raises(ValueError, match=f"{unlike} resume with the same profile and total_steps"):
        changed.load_state_dict(average.state_dict())
    assert same(changed.state_dict(), before)


@pytest.mark.parametrize(
    "profile",
    [
        EMA(half_life=np.int64(5)),
        LAWA(np.int64(2), every=np.int32(1)),
        Tail(start=np.float32(0.5)),
        PowerEMA(np.float64(0.1)),
        FromSchedule(lambda step: 1 - step / 9, np.int64(9)),
    ],
    ids=lambda profile: type(profile).__name__,
)
def test_a_profile_with_numbers_of_numpy_makes_a_checkpoint_of_plain_ones(profile):
    average = WeightAverage(network(), profile, total_steps=9)
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    average.load_state_dict(torch.load(file, weights_only=True))


def test_resuming_with_another_horizon_of_the_run_is_refused():
    model = network()
    saved = WeightAverage(model, EMA(), total_steps=1000).state_dict()
    with pytest.raises(ValueError, match="resume with the same profile and total_steps"):
        WeightAverage(model, EMA(), total_steps=2000).load_state_dict(saved)


@pytest.mark.parametrize(
    ("profile", "longer"), [(EMA(half_life=3), 2000), (EMA(), 1040), (LAWA(), 1100)], ids=str
)
def test_a_run_may_be_longer_where_all_lengths_stay_the_same_steps(profile, longer):
    _, average = trained(profile, total_steps=1000)
    resumed = WeightAverage(network(), profile, total_steps=longer)
    resumed.load_state_dict(average.state_dict())
    assert same(resumed.state_dict(), average.state_dict())


def test_resuming_with_another_schedule_is_refused():
    schedules = [step(1000, {0.25: 0.5, 0.5: 0.1}), step(1000, {0.25: 0.5, 0.52: 0.1})]
    saved, other = (WeightAverage(network(), FromSchedule(schedule)) for schedule in schedules)
    with pytest.raises(
        ValueError, match=r"has schedule=.*\[0\.5, .*this one schedule=.*\[0\.52"
    ) as error:
        other.load_state_dict(saved.state_dict())
    assert len(str(error.value)) < 300


def test_resuming_with_another_function_as_the_schedule_is_refused():
    saved = WeightAverage(network(), FromSchedule(lambda step: 1 - step / 9, 9)).state_dict()
    other = WeightAverage(network(), FromSchedule(lambda step: 1 - (step / 9) ** 2, 9))
    with pytest.raises(ValueError, match=r"has schedule=\[1\.0, .*this one schedule=\[1\.0, "):
        other.load_state_dict(saved)


def test_resuming_from_the_state_of_something_else_is_refused_and_loses_nothing():
    _, average = trained(Polyak())
    before = copy.deepcopy(average.state_dict())
    partial = {key: value for key, value in before.items() if key not in ("folds", "steps")}
    with pytest.raises(ValueError, match=r"not the state_dict.*lacks \['folds', 'steps'\]"):
        average.load_state_dict(partial)
    with pytest.raises(ValueError, match="not the state_dict of a WeightAverage"):
        average.load_state_dict(network().state_dict())
    with pytest.raises(ValueError, match="not the state_dict of a WeightAverage: it lacks"):
        average.load_state_dict([before])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"not the state_dict.*: its profile is None"):
        average.load_state_dict({**before, "profile": None})
    assert same(average.state_dict(), before)


def test_resuming_with_another_model_is_refused_and_loses_nothing():
    _, average = trained(Polyak())
    other = network()
    other[3] = nn.Linear(4, 9)
    changed = WeightAverage(other, Polyak())
    changed.update()
    before = copy.deepcopy(changed.state_dict())
    with pytest.raises(
        ValueError, match=r"mean of '3.bias' is \(2,\) in the saved.*\(9,\) in this"
    ):
        changed.load_state_dict(average.state_dict())
    assert same(changed.state_dict(), before)
    del other[3]
    with pytest.raises(ValueError, match=r"'3.bias' is \(2,\) in the saved average and missing"):
        WeightAverage(other, Polyak()).load_state_dict(average.state_dict())


@pytest.mark.parametrize("wrong", [None, -1, "5", 2.5])
@pytest.mark.parametrize("name", ["steps", "folds", "previous"])
def test_a_count_that_is_none_is_refused_and_changes_nothing(name, wrong):
    _, average = trained(Polyak())
    _, other = trained(EMA(half_life=3))
    before = copy.deepcopy(average.state_dict())
    tensors = other.state_dict()["tensors"]
    with pytest.raises(ValueError, match="its counts are"):
        average.load_state_dict({**before, "tensors": tensors, name: wrong})
    assert same(average.state_dict(), before)


@pytest.mark.parametrize("offload", [False, True])
def test_a_checkpoint_may_be_taken_and_loaded_in_inference_mode(offload):
    model = network()
    first, second = (WeightAverage(model, Polyak(), offload=offload) for _ in range(2))
    with torch.inference_mode():
        second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update()
    assert same(first.weights(), second.weights())
