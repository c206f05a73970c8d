import pytest
import torch
from short_runs import losses

from eval.workloads import images, vit_wide4
from eval.workloads.image_vit.model import ViT
from eval.workloads.vit_wide4 import WORKLOAD

SHORT = {"batch_size": 16, "lr": 1e-3}


@pytest.fixture(scope="module")
def splits():
    return vit_wide4.load()


def test_it_is_four_times_as_wide_as_image_vit():
    wide, narrow = WORKLOAD.build_model(), ViT()
    assert wide.norm.weight.numel() == 4 * narrow.norm.weight.numel()


def test_it_trains_on_all_images_and_is_evaluated_on_as_many_of_each_class(splits):
    assert torch.equal(splits.train["images"], images.load().train["images"])
    for split in (splits.validation, splits.test):
        assert split["images"].shape == (500, 1, images.SIZE, images.SIZE)
        assert split["labels"].bincount().tolist() == [50] * images.NUM_CLASSES


def test_no_image_is_in_two_splits(splits):
    shown = [
        {image.tobytes() for image in split["images"].numpy()}
        for split in (splits.train, splits.validation, splits.test)
    ]
    assert len(set.union(*shown)) == sum(map(len, shown)) == 13000


def test_a_fresh_model_gets_gradients_everywhere(splits):
    model = WORKLOAD.build_model()
    batch = next(WORKLOAD.training_batches(splits.train, 4, torch.Generator()))
    WORKLOAD.loss(model, batch).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_few_steps_lower_the_loss(splits):
    series = losses(WORKLOAD, splits.train, seed=0, steps=30, **SHORT)
    assert sum(series[-5:]) < 0.85 * sum(series[:5])


def test_a_seed_settles_training_bit_for_bit(splits, one_thread):
    one, same, other = (losses(WORKLOAD, splits.train, s, steps=3, **SHORT) for s in (1, 1, 2))
    assert one == same
    assert one != other
