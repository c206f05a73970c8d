import math

import pytest
import torch
from short_runs import losses

from eval.data import read
from eval.workloads.text_gpt import WORKLOAD
from eval.workloads.text_gpt.data import EVALUATION_WINDOWS, evaluate, load
from eval.workloads.text_gpt.model import CONTEXT, GPT, NUM_BYTES

SHORT = {"batch_size": 8, "lr": 3e-3}


@pytest.fixture(scope="module")
def splits():
    return load()


def test_no_chapter_stands_in_two_splits():
    chapters = [set(bytes(text).split(b"\n")) - {b""} for text in read("verses").values()]
    assert len(set.union(*chapters)) == sum(map(len, chapters)) == 1189


def test_held_out_windows_are_disjoint_and_spread_over_their_text(splits):
    for name in ("validation", "test"):
        windows, text = getattr(splits, name)["windows"], read("verses")[name]
        assert windows.shape == (EVALUATION_WINDOWS, CONTEXT + 1)
        distance = len(text) // EVALUATION_WINDOWS
        assert distance > CONTEXT
        for place in (0, 7, EVALUATION_WINDOWS - 1):
            assert windows[place].tolist() == text[place * distance :][: CONTEXT + 1].tolist()


def test_training_windows_come_from_anywhere_in_the_text(splits):
    text = torch.arange(1000)
    batches = WORKLOAD.training_batches({"text": text}, 200, torch.Generator().manual_seed(0))
    (windows,) = next(batches)
    assert windows.shape == (200, CONTEXT + 1)
    assert torch.equal(windows - windows[:, :1], torch.arange(CONTEXT + 1).expand(200, -1))
    assert windows[:, 0].min() < 50
    assert windows[:, -1].max() >= 950


def test_a_fresh_model_gets_gradients_everywhere(splits):
    torch.manual_seed(0)
    model = GPT()
    loss = WORKLOAD.loss(model, next(WORKLOAD.training_batches(splits.train, 8, torch.Generator())))
    loss.backward()
    assert math.log(NUM_BYTES) - 1 < loss.item() < math.log(NUM_BYTES) + 1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_byte_is_predicted_from_those_before_it_only(splits):
    windows = splits.validation["windows"][:2, :-1]
    changed = windows.clone()
    changed[:, 30:] = 7
    model = GPT()
    before, after = model(windows), model(changed)
    assert torch.equal(before[:, :30], after[:, :30])
    assert not torch.equal(before[:, 30], after[:, 30])


def test_the_order_of_earlier_bytes_matters(splits):
    windows = splits.validation["windows"][:2, :-1]
    swapped = windows.clone()
    swapped[:, :10] = windows[:, :10].flip(1)
    model = GPT()
    assert not torch.allclose(model(windows)[:, -1], model(swapped)[:, -1], atol=1e-6)


def test_a_few_steps_lower_the_loss(splits):
    series = losses(WORKLOAD, splits.train, seed=0, steps=40, **SHORT)
    assert sum(series[-5:]) < 0.75 * sum(series[:5])


def test_a_seed_settles_training_bit_for_bit(splits, one_thread):
    one, same, other = (
        losses(WORKLOAD, splits.train, seed, steps=4, **SHORT) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_knowing_nothing_costs_the_logarithm_of_the_number_of_bytes(splits):
    class Ignorant(torch.nn.Module):
        def forward(self, text):
            return torch.zeros(*text.shape, NUM_BYTES)

    assert evaluate(Ignorant(), splits.validation) == pytest.approx(math.log(NUM_BYTES))
