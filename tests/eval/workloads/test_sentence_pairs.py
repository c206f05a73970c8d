from math import log, nan

import pytest
import torch
from short_runs import losses
from torch import nn

from eval.workloads.sentence_pairs import WORKLOAD
from eval.workloads.sentence_pairs.model import NUM_UNITS, PAD


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


class Known(nn.Module):
    """A stand-in for a model with these similarities."""

    def __init__(self, similarities):
        super().__init__()
        self.similarities = similarities

    def forward(self, german, english):
        return self.similarities


def evaluate(similarities):
    return WORKLOAD.evaluate(Known(similarities), {"german": None, "english": None})


def test_every_sentence_has_its_translation(splits):
    for split, number in ((splits.train, 6198), (splits.validation, 500), (splits.test, 500)):
        assert len(split["german"]) == len(split["english"]) == number


def test_no_pair_of_training_is_evaluated_on(splits):
    def pairs(split):
        return {
            tuple(tuple(row[row != PAD].tolist()) for row in pair)
            for pair in zip(split["german"], split["english"], strict=True)
        }

    train, validation, test = map(pairs, (splits.train, splits.validation, splits.test))
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_all_units_are_in_the_tables(splits):
    for split in (splits.train, splits.validation, splits.test):
        for units in split.values():
            assert 0 <= units.min() <= units.max() < NUM_UNITS


def test_padding_changes_nothing(splits):
    torch.manual_seed(0)
    model = WORKLOAD.build_model()
    german, english = splits.validation["german"][:5], splits.validation["english"][:5]
    longer = nn.functional.pad(german, (0, 7), value=PAD)
    torch.testing.assert_close(model(german, english), model(longer, english))


def test_the_loss_of_similarities_that_tell_nothing_is_the_logarithm_of_their_number():
    found = WORKLOAD.loss(Known(torch.zeros(8, 8)), (torch.zeros(8), torch.zeros(8)))
    assert found.item() == pytest.approx(log(8))


def test_the_loss_asks_in_both_directions():
    similarities = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    found = WORKLOAD.loss(Known(similarities), (torch.zeros(2), torch.zeros(2)))
    rows = -similarities.log_softmax(1).diagonal().mean()
    columns = -similarities.log_softmax(0).diagonal().mean()
    torch.testing.assert_close(found, (rows + columns) / 2)


def test_the_metric_is_the_mean_of_the_reciprocal_ranks():
    similarities = torch.tensor([[3.0, 1.0, 2.0], [5.0, 4.0, 6.0], [9.0, 8.0, 9.5]])
    assert evaluate(similarities) == pytest.approx((1 + 1 / 3 + 1) / 3)


@pytest.mark.parametrize("value", [0.0, nan])
def test_a_model_that_tells_nothing_ranks_everything_last(value):
    assert evaluate(torch.full((4, 4), value)) == 0.25


def test_training_lowers_the_training_loss(splits):
    found = losses(WORKLOAD, splits.train, seed=0, steps=60, batch_size=128, lr=3e-3)
    assert sum(found[-10:]) < 0.6 * sum(found[:10])


@pytest.mark.usefixtures("one_thread")
def test_one_seed_gives_one_run_bit_for_bit(splits):
    one, same, other = (losses(WORKLOAD, splits.train, s, 3, 128, 1e-3) for s in (0, 0, 1))
    assert one == same != other
