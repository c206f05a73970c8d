"""Properties of both speech models."""

import pytest
import torch
from short_runs import losses

from eval.workloads.speech_conformer import WORKLOAD as CONFORMER
from eval.workloads.speech_deepspeech import WORKLOAD as DEEPSPEECH

SHORT = {"batch_size": 4, "lr": 2e-3}

pytestmark = pytest.mark.parametrize("workload", [CONFORMER, DEEPSPEECH], ids=lambda w: w.name)


@pytest.fixture(scope="module")
def train():
    return CONFORMER.load().train


def test_a_fresh_model_has_a_finite_loss_and_a_gradient_for_every_parameter(workload, train):
    torch.manual_seed(0)
    model = workload.build_model()
    loss = workload.loss(model, next(workload.training_batches(train, 4, torch.Generator())))
    loss.backward()
    assert loss.isfinite()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


def test_a_few_steps_lower_the_training_loss(workload, train):
    curve = losses(workload, train, seed=0, steps=30, **SHORT)
    assert sum(curve[-5:]) < 0.8 * sum(curve[:5])


@pytest.mark.usefixtures("one_thread")
def test_a_seed_settles_the_losses_bit_for_bit(workload, train):
    one, same, other = (losses(workload, train, seed, steps=3, **SHORT) for seed in (1, 1, 2))
    assert one == same != other


def test_padding_and_neighbours_in_the_batch_do_not_change_a_segments_output(workload):
    torch.manual_seed(0)
    model = workload.build_model().eval()
    frames, counts = torch.randn(3, 60, 32), torch.tensor([60, 41, 8])
    frames = frames * (torch.arange(60) < counts[:, None])[:, :, None]
    together, halves = model(frames, counts)
    assert halves.tolist() == [30, 21, 4]
    for row, (count, half) in enumerate(zip(counts, halves, strict=True)):
        alone, _ = model(frames[row : row + 1, :count], counts[row : row + 1])
        torch.testing.assert_close(together[row, :half], alone[0], atol=1e-5, rtol=1e-4)


def test_every_frame_of_the_output_hears_the_whole_segment(workload):
    torch.manual_seed(0)
    model = workload.build_model().eval()
    frames, counts = torch.randn(1, 20, 32), torch.tensor([20])
    before, _ = model(frames, counts)
    frames[:, -1] += 1
    first = (model(frames, counts)[0] - before)[0, 0]
    frames[:, -1] -= 1
    frames[:, 0] += 1
    last = (model(frames, counts)[0] - before)[0, -1]
    assert first.abs().max() > 1e-6
    assert last.abs().max() > 1e-6
