import numpy as np
import pytest
import torch
from short_runs import losses
from torch import nn

from eval.data import read
from eval.workloads.table_raw import WORKLOAD
from eval.workloads.table_raw.data import NUM_INPUTS


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, inputs):
        return torch.full((len(inputs), 1), self.value)


def test_the_splits_have_their_sizes(splits):
    sizes = [len(split["targets"]) for split in (splits.train, splits.validation, splits.test)]
    assert sizes == [36_000, 6_000, 6_000]


def test_the_inputs_are_the_columns_of_the_table_as_they_are(splits):
    arrays = read("air_times")
    assert len(arrays["names"]) == NUM_INPUTS
    raw = arrays["features"][:, arrays["split"] == 0].T
    assert np.array_equal(splits.train["inputs"].numpy(), raw)


def test_the_scales_of_the_inputs_lie_four_orders_of_magnitude_apart(splits):
    deviations = splits.train["inputs"].double().std(0)
    assert deviations.max() / deviations.min() > 1e4


def test_nothing_known_after_departure_is_among_the_columns():
    after = {"dep_time", "dep_delay", "arr_time", "arr_delay", "sched_arr_time", "air_time"}
    assert after.isdisjoint(read("air_times")["names"])


def test_no_flight_is_there_twice():
    arrays = read("air_times")
    flights = np.vstack([arrays["features"], arrays["air_time"]])
    assert len(np.unique(flights, axis=1).T) > 0.999 * flights.shape[1]  # few are alike in all


def test_training_targets_are_standardised(splits):
    targets = splits.train["targets"].double()
    assert targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert targets.std().item() == pytest.approx(1, abs=1e-6)


def test_a_constant_errs_by_the_deviation_in_minutes(splits):
    minutes = read("air_times")["air_time"][read("air_times")["split"] == 1]
    mean = splits.validation["targets"].mean().item()
    found = WORKLOAD.evaluate(Constant(mean), splits.validation)
    assert found == pytest.approx(minutes.std(), rel=1e-4)


def test_a_linear_model_of_standardised_inputs_is_right_within_twelve_minutes(splits):
    """The table can be learned from: what makes it hard are the scales alone."""
    inputs = splits.train["inputs"].double()
    mean, std = inputs.mean(0), inputs.std(0)

    def design(split):
        inputs = (split["inputs"].double() - mean) / std
        return torch.cat([inputs, torch.ones(len(inputs), 1).double()], dim=1)

    targets = splits.train["targets"].double()[:, None]
    weights = torch.linalg.lstsq(design(splits.train), targets).solution
    found = WORKLOAD.evaluate(
        lambda _: design(splits.validation) @ weights,
        splits.validation,
    )
    assert 8 < found < 12


def test_training_lowers_the_training_loss(splits):
    found = losses(WORKLOAD, splits.train, seed=0, steps=200, batch_size=128, lr=1e-3)
    assert sum(found[-20:]) < 0.1 * sum(found[:20])


@pytest.mark.usefixtures("one_thread")
def test_one_seed_gives_one_run_bit_for_bit(splits):
    one, same, other = (losses(WORKLOAD, splits.train, s, 3, 128, 1e-3) for s in (0, 0, 1))
    assert one == same != other
