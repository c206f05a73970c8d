import pytest
import torch
from scipy.stats import beta, kstest
from short_runs import losses

from eval.workloads import images
from eval.workloads.image_vit import WORKLOAD
from eval.workloads.image_vit.model import Attention, ViT, sinusoids_2d

SHORT = {"batch_size": 32, "lr": 3e-3}


@pytest.fixture(scope="module")
def train():
    return images.load().train


def test_a_fresh_model_knows_nothing_and_gets_gradients_everywhere(train):
    model = ViT()
    loss = WORKLOAD.loss(model, next(WORKLOAD.training_batches(train, 32, torch.Generator())))
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(10.0).log().item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_few_steps_lower_the_loss(train):
    series = losses(WORKLOAD, train, seed=0, steps=60, **SHORT)
    assert sum(series[-10:]) < 0.85 * sum(series[:10])


def test_a_seed_settles_training_bit_for_bit(train, one_thread):
    one, same, other = (losses(WORKLOAD, train, seed, steps=4, **SHORT) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_each_image_is_mixed_with_the_next_one_and_so_are_the_targets(train):
    generator = torch.Generator().manual_seed(0)
    for _, (inputs, targets) in zip(
        range(20), WORKLOAD.training_batches(train, 8, generator), strict=False
    ):
        assert inputs.shape == (8, 1, images.SIZE, images.SIZE)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        assert ((targets > 0).sum(1) <= 2).all()


def test_the_share_of_an_image_is_beta_distributed():
    train = {
        "images": torch.zeros(2, 1, images.SIZE, images.SIZE),
        "labels": torch.arange(2),
    }
    batches = WORKLOAD.training_batches(train, 2, torch.Generator().manual_seed(0))
    shares = [float(next(batches)[1][0, 0]) for _ in range(400)]
    assert kstest(shares, beta(0.2, 0.2).cdf).pvalue > 0.01


def test_a_mixture_of_images_is_the_mixture_of_the_labels():
    """Images of class k have the brightness k everywhere."""
    labels = torch.arange(4)
    pictures = labels.float().reshape(4, 1, 1, 1).expand(4, 1, images.SIZE, images.SIZE)
    shown = {"images": pictures, "labels": labels}
    batches = WORKLOAD.training_batches(shown, 4, torch.Generator().manual_seed(0))
    for _, (inputs, targets) in zip(range(10), batches, strict=False):
        middle = inputs[:, 0, 14, 14]
        torch.testing.assert_close(middle, targets @ torch.arange(10.0))


def test_attention_does_not_know_the_order_of_places():
    torch.manual_seed(0)
    attention, x, order = Attention(48, 4), torch.randn(2, 16, 48), torch.randperm(16)
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])


def test_every_place_has_its_own_position_and_columns_and_rows_are_alike():
    positions = sinusoids_2d(side=4, width=48)
    assert positions.shape == (16, 48)
    assert len(positions.unique(dim=0)) == 16
    row_first = positions.reshape(4, 4, 2, 24)
    torch.testing.assert_close(row_first[:, :, 0], row_first.transpose(0, 1)[:, :, 1])
    assert torch.equal(row_first[0, :, 0], row_first[3, :, 0])
