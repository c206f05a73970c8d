from math import inf, log10

import pytest
import torch
from short_runs import losses
from torch import nn

from eval.data import read
from eval.workloads.coordinate_net import WORKLOAD
from eval.workloads.coordinate_net.model import FREQUENCY


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


def test_the_splits_hold_every_pixel_once(splits):
    places = torch.cat([s["places"] for s in (splits.train, splits.validation, splits.test)])
    assert len(places) == len(places.unique(dim=0)) == 96 * 96


def test_a_batch_is_all_of_the_training_pixels(splits):
    stream = WORKLOAD.training_batches(splits.train, WORKLOAD.batch_size, torch.Generator())
    first, second = next(stream), next(stream)
    assert len(first[0]) == WORKLOAD.batch_size == 6912
    assert all(map(torch.equal, first, second))


def test_the_colour_of_a_place_is_that_of_its_pixel(splits):
    pixels = read("cat")["pixels"]
    for place, colour in zip(splits.test["places"][:50], splits.test["colours"][:50], strict=True):
        row, column = ((place + 1) / 2 * 95).round().int().tolist()
        torch.testing.assert_close((colour + 1) / 2 * 255, torch.tensor(pixels[row, column]) + 0.0)


def test_the_inputs_of_inner_sines_have_variance_one(splits):
    """What the initialisation of the paper is made for."""
    torch.manual_seed(0)
    model = WORKLOAD.build_model()
    found = []

    def without_bias(layer, inputs, output):
        found.append((FREQUENCY * (output - layer.bias)).square().mean().item())

    for layer in model.layers[1:-1]:
        layer.register_forward_hook(without_bias)
    model(splits.train["places"])
    assert found == pytest.approx([1, 1], rel=0.3)


def test_training_lowers_the_training_loss(splits):
    found = losses(WORKLOAD, splits.train, seed=0, steps=40, batch_size=6912, lr=3e-3)
    assert found[-1] < 0.3 * found[0]


@pytest.mark.usefixtures("one_thread")
def test_one_seed_gives_one_run_bit_for_bit(splits):
    one, same, other = (losses(WORKLOAD, splits.train, s, 3, 6912, 1e-3) for s in (0, 0, 1))
    assert one == same != other


def test_the_metric_is_the_peak_signal_to_noise_ratio_of_scikit_image(splits):
    from skimage.metrics import peak_signal_noise_ratio

    colours = splits.validation["colours"]
    noisy = colours + 0.1 * torch.randn(colours.shape, generator=torch.Generator().manual_seed(0))
    found = WORKLOAD.evaluate(lambda places: noisy, splits.validation)
    expected = peak_signal_noise_ratio(colours.numpy(), noisy.numpy(), data_range=2)
    assert found == pytest.approx(expected, rel=1e-5)
    assert found == pytest.approx(10 * log10(4 / 0.01), rel=0.01)


def test_a_model_that_has_diverged_has_the_worst_ratio(splits):
    class Diverged(nn.Module):
        def forward(self, places):
            return torch.full((len(places), 3), inf)

    assert WORKLOAD.evaluate(Diverged(), splits.validation) == -inf
