import numpy as np
import pytest
import torch
from short_runs import losses
from torch import nn

from eval.data import read
from eval.workloads.mlp_batchnorm import WORKLOAD
from eval.workloads.mlp_batchnorm.data import NUM_AIRLINES, NUM_INPUTS


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


def test_the_splits_are_those_of_the_flights(splits):
    sizes = [len(split["airlines"]) for split in (splits.train, splits.validation, splits.test)]
    assert sizes == [267412, 8000, 8000]


def test_inputs_have_mean_zero_and_deviation_one_in_training(splits):
    inputs = splits.train["inputs"].double()
    assert inputs.shape[1] == NUM_INPUTS
    torch.testing.assert_close(inputs.mean(0), torch.zeros(NUM_INPUTS).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std(0), torch.ones(NUM_INPUTS).double(), atol=1e-4, rtol=0)


def test_every_airline_is_trained_on(splits):
    assert torch.all(splits.train["airlines"].bincount(minlength=NUM_AIRLINES) > 0)
    assert len(splits.train["airlines"].bincount()) == NUM_AIRLINES


def test_no_single_input_names_the_airline(splits):
    """A code of the airline among the inputs would have one airline for each of its values."""
    inputs, airlines = splits.validation["inputs"], splits.validation["airlines"]
    for column in inputs.T:
        _, values = column.unique(return_inverse=True)
        counts = torch.zeros(int(values.max()) + 1, NUM_AIRLINES)
        counts.index_put_((values, airlines), torch.ones(len(airlines)), accumulate=True)
        assert counts.max(dim=1).values.sum() < 0.75 * len(airlines)


def test_held_out_flights_are_of_the_whole_year(splits):
    months = read("flights")["categories"][5]
    of_validation = months[read("flights")["split"] == 1]
    found = splits.validation["inputs"][:, 13].unique()
    assert len(found) == len(np.unique(of_validation)) == 12


def test_a_fresh_model_gives_the_logits_of_every_airline(splits):
    torch.manual_seed(0)
    assert WORKLOAD.build_model()(splits.train["inputs"][:5]).shape == (5, NUM_AIRLINES)


def test_three_of_the_layers_are_batchnorm():
    layers = list(WORKLOAD.build_model())
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in layers) == 3


def test_training_lowers_the_training_loss(splits):
    found = losses(WORKLOAD, splits.train, seed=0, steps=60, batch_size=128, lr=3e-3)
    assert sum(found[-10:]) < 0.6 * sum(found[:10])


@pytest.mark.usefixtures("one_thread")
def test_one_seed_gives_one_run_bit_for_bit(splits):
    one, same, other = (losses(WORKLOAD, splits.train, s, 3, 128, 1e-3) for s in (0, 0, 1))
    assert one == same != other


def test_guessing_all_airlines_alike_loses_their_logarithm(splits):
    class Uniform(nn.Module):
        def forward(self, inputs):
            return torch.zeros(len(inputs), NUM_AIRLINES)

    found = WORKLOAD.evaluate(Uniform(), splits.validation)
    assert found == pytest.approx(np.log(NUM_AIRLINES))
