import pytest
import torch
from short_runs import losses

from eval.workloads import images
from eval.workloads.autoencoder import WORKLOAD
from eval.workloads.autoencoder.model import Autoencoder

SHORT = {"batch_size": 64, "lr": 3e-3}


@pytest.fixture(scope="module")
def splits():
    return images.load()


def test_a_fresh_model_gets_gradients_everywhere(splits):
    batch = next(WORKLOAD.training_batches(splits.train, 8, torch.Generator()))
    model = Autoencoder()
    WORKLOAD.loss(model, batch).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_an_image_goes_through_sixteen_numbers_and_keeps_its_shape(splits):
    pictures = splits.validation["images"][:3]
    model = Autoencoder()
    assert model.encoder(pictures.flatten(1)).shape == (3, 16)
    assert model(pictures).shape == pictures.shape


def test_a_few_steps_lower_the_loss(splits):
    series = losses(WORKLOAD, splits.train, seed=0, steps=40, **SHORT)
    assert sum(series[-5:]) < 0.6 * sum(series[:5])


def test_a_seed_settles_training_bit_for_bit(splits, one_thread):
    one, same, other = (
        losses(WORKLOAD, splits.train, seed, steps=4, **SHORT) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_perfect_reconstruction_has_no_error_and_grey_has_the_variance(splits):
    assert WORKLOAD.evaluate(torch.nn.Identity(), splits.validation) == 0

    class Grey(torch.nn.Module):
        def forward(self, pictures):
            return torch.zeros_like(pictures)

    # Training images were standardised; those of validation are almost alike.
    assert WORKLOAD.evaluate(Grey(), splits.validation) == pytest.approx(1, abs=0.05)


def test_labels_do_not_matter(splits):
    pictures, labels = splits.train["images"][:4], splits.train["labels"][:4]
    model = Autoencoder()
    assert torch.equal(
        WORKLOAD.loss(model, (pictures, labels)), WORKLOAD.loss(model, (pictures, labels + 1))
    )
