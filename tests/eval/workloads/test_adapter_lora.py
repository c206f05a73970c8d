import pytest
import torch
from short_runs import losses
from torch import nn

from eval.workloads import text_gpt
from eval.workloads.adapter_lora import WORKLOAD
from eval.workloads.adapter_lora.data import load
from eval.workloads.adapter_lora.model import RANK, SCALE, AdaptedLinear, adapted_gpt
from eval.workloads.text_gpt.data import EVALUATION_WINDOWS
from eval.workloads.text_gpt.model import CONTEXT

SHORT = {"batch_size": 8, "lr": 1e-2}


@pytest.fixture(scope="module")
def splits():
    return load()


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_only_adapters_are_trained_and_every_linear_layer_has_one():
    model = adapted_gpt()
    adapters = [m for m in model.modules() if isinstance(m, AdaptedLinear)]
    assert len(adapters) == 4 * len(model.blocks)
    assert all(name.endswith((".a", ".b")) for name in trained(model))
    assert len(trained(model)) == 2 * len(adapters)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert sum(p.numel() for p in trained(model).values()) < frozen / 10


def test_an_adapter_changes_nothing_at_first_and_then_by_a_low_rank():
    torch.manual_seed(0)
    frozen = nn.Linear(20, 30)
    layer, x = AdaptedLinear(frozen), torch.eye(20)
    assert torch.equal(layer(x), frozen(x))
    nn.init.normal_(layer.b)
    change = (layer(x) - frozen(x)).T
    torch.testing.assert_close(change, SCALE * layer.b @ layer.a, atol=1e-5, rtol=1e-5)
    assert torch.linalg.matrix_rank(change.detach(), tol=1e-3) == RANK


def test_the_pretrained_model_knows_the_book_better_than_the_user_interface(splits):
    model = adapted_gpt().eval()
    with torch.no_grad():
        book = WORKLOAD.evaluate(model, text_gpt.data.load().validation)
        interface = WORKLOAD.evaluate(model, splits.validation)
    assert book < 1.9
    assert interface > book + 0.5


def test_every_adapter_gets_a_gradient_and_nothing_else_does(splits):
    model = adapted_gpt()
    batch = next(WORKLOAD.training_batches(splits.train, 8, torch.Generator()))
    WORKLOAD.loss(model, batch).backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == name.endswith((".a", ".b"))
        assert not name.endswith(".b") or p.grad.abs().sum() > 0


def test_the_model_is_the_same_but_for_the_adapters_whatever_the_seed():
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(dict(adapted_gpt().named_parameters()))
    same = {name for name in models[0] if torch.equal(models[0][name], models[1][name])}
    assert set(models[0]) - same == {name for name in models[0] if name.endswith(".a")}


def test_texts_are_lines_of_ascii_and_no_line_is_in_two_splits(splits):
    text = bytes(splits.train["text"].tolist())
    assert text.isascii()
    assert text.endswith(b"\n")
    lines = set(text.split(b"\n"))
    for split in (splits.validation, splits.test):
        assert split["windows"].shape == (EVALUATION_WINDOWS, CONTEXT + 1)
        held_out = [
            line for row in split["windows"].tolist() for line in bytes(row).split(b"\n")[1:-1]
        ]
        assert held_out
        assert lines.isdisjoint(held_out)


def test_a_few_steps_lower_the_loss(splits):
    series = losses(WORKLOAD, splits.train, seed=0, steps=40, **SHORT)
    assert sum(series[-5:]) < 0.9 * sum(series[:5])


def test_a_seed_settles_training_bit_for_bit(splits, one_thread):
    one, same, other = (losses(WORKLOAD, splits.train, s, steps=4, **SHORT) for s in (1, 1, 2))
    assert one == same
    assert one != other
