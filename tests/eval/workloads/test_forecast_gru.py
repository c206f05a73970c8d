import numpy as np
import pytest
import torch
from short_runs import losses

from eval.data import read
from eval.workloads.forecast_gru import WORKLOAD
from eval.workloads.forecast_gru.data import FUTURE, PAST, evaluate, load
from eval.workloads.forecast_gru.model import GRU

SHORT = {"batch_size": 32, "lr": 1e-2}


@pytest.fixture(scope="module")
def splits():
    return load()


class Persistence(torch.nn.Module):
    """The last temperature for ever."""

    def forward(self, past):
        return past[:, -1:, 0].expand(-1, FUTURE)


def test_every_season_is_in_every_split_and_no_window_crosses_into_another():
    split = read("weather")["split"]
    borders = np.flatnonzero(np.diff(split)) + 1
    lengths = np.diff([0, *borders])
    assert lengths.min() > PAST + FUTURE
    for number in range(3):
        quarters = [part.mean() for part in np.array_split(split == number, 4)]
        assert min(quarters) > 0.1


def test_windows_are_hours_of_their_own_split_only(splits):
    arrays = read("weather")
    for number, name in enumerate(("train", "validation", "test")):
        temperatures = arrays["readings"][:, arrays["split"] == number, 0]
        past, future = getattr(splits, name)["past"], getattr(splits, name)["future"]
        assert past.shape == (len(future), PAST, 10)
        assert future.shape == (len(past), FUTURE)
        degree = getattr(splits, name)["degree"]
        middle = np.median(arrays["readings"][:, arrays["split"] == 0, 0])
        assert abs(float(future.mean()) / degree) < 5
        assert future.min() / degree + middle > temperatures.min() - 10


def test_the_future_follows_the_past(splits):
    """Three airports a start: the window three hours later has the same hours three places on."""
    past, future = splits.validation["past"], splits.validation["future"]
    assert torch.equal(past[3, -1, 0].reshape(1), future[0, 2:3])


def test_a_fresh_model_gets_gradients_everywhere(splits):
    torch.manual_seed(0)
    model = GRU()
    batch = next(WORKLOAD.training_batches(splits.train, 8, torch.Generator()))
    WORKLOAD.loss(model, batch).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_few_steps_lower_the_loss(splits):
    series = losses(WORKLOAD, splits.train, seed=0, steps=60, **SHORT)
    assert sum(series[-10:]) < 0.5 * sum(series[:10])


def test_a_seed_settles_training_bit_for_bit(splits, one_thread):
    one, same, other = (
        losses(WORKLOAD, splits.train, seed, steps=4, **SHORT) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_an_epoch_shows_each_window_at_most_once(splits):
    shown = {"past": torch.arange(100.0).reshape(100, 1, 1), "future": torch.arange(100.0)[:, None]}
    batches = WORKLOAD.training_batches(shown, 32, torch.Generator().manual_seed(0))
    seen = torch.cat([next(batches)[1] for _ in range(3)]).flatten()
    assert len(seen.unique()) == 96


def test_errors_are_in_degrees_fahrenheit(splits):
    arrays = read("weather")
    persistent = evaluate(Persistence(), splits.test)
    assert 3 < persistent < 7

    split = dict(splits.test)
    split["future"] = splits.test["past"][:, -1:, 0].expand(-1, FUTURE) + 2 * split["degree"]
    assert evaluate(Persistence(), split) == pytest.approx(2, rel=1e-4)
    deviation = arrays["readings"][:, arrays["split"] == 0, 0].astype(float).std(ddof=1)
    assert split["degree"] == pytest.approx(1 / deviation)
