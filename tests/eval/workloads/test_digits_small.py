from math import log

import pytest
import torch
from short_runs import losses
from torch import nn

from eval.data import read
from eval.workloads.digits_small import WORKLOAD
from eval.workloads.digits_small.data import NUM_CLASSES


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


class Uniform(nn.Module):
    def forward(self, images):
        return torch.zeros(len(images), NUM_CLASSES)


def test_few_images_are_trained_on_and_many_evaluated_on(splits):
    sizes = [len(split["labels"]) for split in (splits.train, splits.validation, splits.test)]
    assert sizes == [200, 700, 897]


def test_no_image_is_there_twice():
    images = read("digits")["images"]
    assert len({image.tobytes() for image in images}) == len(images)


def test_every_class_is_in_every_split(splits):
    for split in (splits.train, splits.validation, splits.test):
        share = split["labels"].bincount(minlength=NUM_CLASSES) / len(split["labels"])
        assert torch.all((share > 0.06) & (share < 0.14))


def test_ink_is_scaled_to_one(splits):
    images = splits.train["images"]
    assert images.shape[1:] == (1, 8, 8)
    assert (images.min().item(), images.max().item()) == (-1, 1)


def test_it_must_hold_its_target():
    assert WORKLOAD.must_hold_target


def test_training_learns_the_images_by_heart(splits):
    """A minute's worth of steps would be more than needed: 15 epochs do."""
    found = losses(WORKLOAD, splits.train, seed=0, steps=150, batch_size=20, lr=3e-3)
    assert sum(found[-10:]) < 0.02 * sum(found[:10])


@pytest.mark.usefixtures("one_thread")
def test_one_seed_gives_one_run_bit_for_bit(splits):
    one, same, other = (losses(WORKLOAD, splits.train, s, 3, 20, 1e-3) for s in (0, 0, 1))
    assert one == same != other


def test_guessing_all_digits_alike_loses_their_logarithm(splits):
    assert WORKLOAD.evaluate(Uniform(), splits.test) == pytest.approx(log(NUM_CLASSES))
