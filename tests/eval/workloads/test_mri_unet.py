import pytest
import torch
from short_runs import losses
from torch import nn

from eval.data import read
from eval.workloads.mri_unet import WORKLOAD, data
from eval.workloads.mri_unet.model import UNet

SHORT = {"batch_size": 2, "lr": 3e-3}


@pytest.fixture(scope="module")
def splits():
    return data.load()


def few(split, number=4):
    return {name: value[:number] for name, value in split.items()}


def test_the_splits_are_of_three_people_and_no_slice_is_there_twice():
    arrays = read("heads")
    assert [len(arrays[name]) for name in ("train", "validation", "test")] == [293, 51, 85]
    slices = [one.tobytes() for array in arrays.values() for one in array]
    assert len(set(slices)) == len(slices)


def test_slices_are_brain_on_black():
    for slices in read("heads").values():
        assert (slices == 0).mean() > 0.5
        frame = slices.copy()
        frame[:, 2:-2, 2:-2] = 0
        assert frame.max() == 0


def test_a_fresh_model_has_a_finite_loss_and_gradients_everywhere(splits):
    model = UNet()
    loss = WORKLOAD.loss(model, next(WORKLOAD.training_batches(splits.train, 2, torch.Generator())))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_few_steps_lower_the_loss(splits):
    series = losses(WORKLOAD, splits.train, seed=0, steps=30, **SHORT)
    assert sum(series[-5:]) < 0.5 * sum(series[:5])


def test_a_seed_settles_training_bit_for_bit(splits, one_thread):
    one, same, other = (
        losses(WORKLOAD, splits.train, seed, steps=4, **SHORT) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_quarter_of_the_columns_is_measured_the_lowest_frequencies_always():
    columns = data.random_columns(200, 96, torch.Generator().manual_seed(0))
    assert (columns.sum(1) == 24).all()
    always = torch.fft.fftfreq(96)[columns.all(0)]
    assert sorted((96 * always).round().int().tolist()) == list(range(-3, 4))
    others = columns[:, ~columns.all(0)].float().mean(0)
    assert others.min() > 0.08
    assert others.max() < 0.32  # 17 of 89, with a standard error of 0.028


def test_a_slice_measured_completely_is_seen_as_it_is(splits):
    slices = few(splits.test)["slices"]
    seen = data.zero_filled(slices, torch.ones(4, 96, dtype=torch.bool))
    torch.testing.assert_close(seen, slices, atol=1e-6, rtol=0)


def test_the_columns_measured_in_evaluation_never_change(splits):
    again = data.load()
    assert torch.equal(again.validation["columns"], splits.validation["columns"])
    assert torch.equal(again.test["columns"], splits.test["columns"])


def test_images_are_standardised_and_slices_are_in_their_units(splits):
    batches = WORKLOAD.training_batches(splits.train, 8, torch.Generator().manual_seed(0))
    images, slices = next(batches)
    torch.testing.assert_close(images.mean((1, 2)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((1, 2)), torch.ones(8))
    # black is the same number in a whole slice, and zero-filling keeps the mean nearly
    assert (slices.flatten(1).min(1).values < 0).all()
    assert (slices.mean((1, 2)).abs() < 0.2).all()


def test_perfect_restoration_has_similarity_one_and_none_that_of_the_zero_filled_image(splits):
    split = few(splits.validation)
    _, mean, std = data.standardised(data.zero_filled(split["slices"], split["columns"]))
    truth = (split["slices"] - mean) / std
    assert data.evaluate(lambda _: truth, split) == pytest.approx(1.0, abs=1e-5)
    untouched = data.evaluate(nn.Identity(), splits.validation)
    assert untouched == pytest.approx(0.560, abs=0.001)


def test_a_model_that_has_diverged_is_no_error(splits):
    value = data.evaluate(lambda images: images * torch.nan, few(splits.validation))
    assert value != value


def test_the_network_neither_sees_the_brightness_of_a_feature_nor_has_parameters_for_it():
    modules = list(UNet().modules())
    norms = [module for module in modules if isinstance(module, nn.InstanceNorm2d)]
    assert len(norms) == sum(
        isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is None
        for module in modules
    )
    assert not any(list(norm.parameters()) for norm in norms)
    model, x = UNet(), torch.randn(1, 32, 32)
    torch.testing.assert_close(model(10 * x), model(x), atol=1e-3, rtol=0)
