import pytest
import torch
from short_runs import losses
from torch import nn

from eval.workloads import images
from eval.workloads.image_resnet import WORKLOAD
from eval.workloads.image_resnet.model import Block, ResNet

SHORT = {"batch_size": 16, "lr": 1e-2}


@pytest.fixture(scope="module")
def train():
    return images.load().train


def test_a_fresh_model_knows_nothing_and_gets_gradients_everywhere(train):
    torch.manual_seed(0)
    model = ResNet()
    loss = WORKLOAD.loss(model, next(WORKLOAD.training_batches(train, 32, torch.Generator())))
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(10.0).log().item(), abs=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_few_steps_lower_the_loss(train):
    series = losses(WORKLOAD, train, seed=0, steps=30, **SHORT)
    assert sum(series[-5:]) < 0.8 * sum(series[:5])


def test_a_seed_settles_training_bit_for_bit(train, one_thread):
    one, same, other = (losses(WORKLOAD, train, seed, steps=4, **SHORT) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_fresh_block_only_passes_on_its_shortcut():
    torch.manual_seed(0)
    model = ResNet()
    x = torch.rand(3, 16, 6, 6)
    same_shape, halving = model.blocks[0], model.blocks[1]
    assert isinstance(same_shape, Block)
    assert isinstance(halving, Block)
    assert torch.equal(same_shape(x), x)
    assert torch.equal(halving(x), halving.shortcut(x).relu())


def test_every_stage_but_the_first_halves_the_image():
    model = ResNet()
    x = model.stem(torch.zeros(1, 1, images.SIZE, images.SIZE))
    sides = []
    for block in model.blocks:
        x = block(x)
        sides.append(tuple(x.shape[1:]))
    assert sides == [(16, 14, 14), (32, 7, 7), (64, 4, 4)]


def test_every_convolution_is_normalised_and_has_no_bias():
    modules = list(ResNet().modules())
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in modules) == len(convolutions)
    assert all(module.bias is None for module in convolutions)
