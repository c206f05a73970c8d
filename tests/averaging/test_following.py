import gc
import weakref

import pytest
import torch
from runs import batches, network, same, train
from torch import nn

from selftune import step_hooks as following_module
from selftune.averaging import LAWA, Polyak, WeightAverage
from selftune.optim import AdamW

OPTIMIZERS = {
    "selftune": lambda params: AdamW(params, lr=0.1),
    "torch": lambda params: torch.optim.AdamW(params, lr=0.1),
    "fused": lambda params: torch.optim.AdamW(params, lr=0.1, fused=True),
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1),
}
every_optimizer = pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


@every_optimizer
def test_every_step_of_the_optimizer_is_an_update(build):
    model, other = network(), network()
    average, reference = (
        WeightAverage(model, LAWA(2, every=3)),
        WeightAverage(other, LAWA(2, every=3)),
    )
    optimizer, other_optimizer = build(model.parameters()), build(other.parameters())
    average.attach(optimizer)
    train(model, optimizer, range(10))
    for step in range(10):
        train(other, other_optimizer, [step])
        reference.update()
    assert average.steps == 10
    assert same(average.state_dict(), reference.state_dict())


@pytest.mark.parametrize("name", ["torch", "fused", "SGD"])
def test_steps_that_a_grad_scaler_skips_do_not_count(name):
    model = nn.Linear(3, 1)
    optimizer = OPTIMIZERS[name](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    average = WeightAverage(model, Polyak())
    average.attach(optimizer)
    seen = []
    for step, batch in enumerate(batches(range(6))):
        optimizer.zero_grad()
        loss = model(batch).square().sum()
        scaler.scale(loss * (float("inf") if step in (0, 3) else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        if step not in (0, 3):
            seen.append(model.weight.detach().clone())
    assert average.steps == 4
    torch.testing.assert_close(average.weights()["weight"], torch.stack(seen).mean(0))


def test_steps_that_the_optimizer_skips_do_not_count():
    model = nn.Linear(3, 1)
    optimizer = AdamW(model.parameters(), lr=0.1)
    average = WeightAverage(model, Polyak())
    average.attach(optimizer)
    train(model, optimizer, range(2))
    model.weight.grad.fill_(torch.nan)
    with pytest.warns(UserWarning, match="skipped a step"):
        optimizer.step()
    train(model, optimizer, range(2, 4))
    assert average.steps == 4


def test_a_step_that_fails_does_not_count():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters())
    average = WeightAverage(model, Polyak())
    average.attach(optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert average.steps == 0


def test_a_removed_handle_ends_it():
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.1)
    average = WeightAverage(model, Polyak())
    handle = average.attach(optimizer)
    train(model, optimizer, range(2))
    handle.remove()
    train(model, optimizer, range(2))
    assert average.steps == 2
    average.attach(optimizer)
    train(model, optimizer, range(2))
    assert average.steps == 4


def test_steps_are_not_counted_twice():
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.1)
    average = WeightAverage(model, Polyak())
    average.attach(optimizer)
    with pytest.raises(RuntimeError, match=r"attach\(\) was called before"):
        average.attach(optimizer)
    with pytest.raises(RuntimeError, match=r"update\(\) is called by the optimizer"):
        average.update()


def test_what_is_no_optimizer_cannot_be_followed():
    model = network()
    with pytest.raises(ValueError, match=r"attach\(\) takes a torch optimizer, got a Sequential"):
        WeightAverage(model, Polyak()).attach(model)


def test_several_averages_follow_one_optimizer():
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.1)
    averages = [WeightAverage(model, profile) for profile in (Polyak(), LAWA(2, every=1))]
    for average in averages:
        average.attach(optimizer)
    train(model, optimizer, range(3))
    assert [average.folds for average in averages] == [3, 3]


# -- verdicts that arrive later, as from an accelerator: here they are made to ------------------


@pytest.fixture
def travelling(monkeypatch):
    monkeypatch.setattr(following_module, "_is_known_later", lambda optimizer, found_inf: True)


def test_a_step_whose_verdict_travels_is_counted_before_the_next(travelling):
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.1)
    average = WeightAverage(model, Polyak())
    average.attach(optimizer)
    seen = []
    for step in range(4):
        train(model, optimizer, [step])
        assert average.steps == step
        seen.append(model[0].weight.detach().clone())
    torch.testing.assert_close(average.weights()["0.weight"], torch.stack(seen).mean(0))
    assert average.steps == 4


def test_a_skipped_step_whose_verdict_travels_does_not_count(travelling):
    model = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    average = WeightAverage(model, Polyak())
    handle = average.attach(optimizer)
    for step in range(3):
        optimizer.found_inf = torch.tensor(float(step == 1))
        optimizer.grad_scale = torch.tensor(1.0)
        train(model, optimizer, [step])
        del optimizer.found_inf, optimizer.grad_scale
    assert average.steps == 1
    handle.remove()
    assert average.steps == 2


def test_an_average_that_is_dropped_with_its_optimizer_is_freed():
    model = network()
    average = WeightAverage(model, Polyak())
    average.attach(AdamW(model.parameters(), lr=0.1))
    gone = weakref.ref(average)
    del average
    gc.collect()
    assert gone() is None


@every_optimizer
def test_an_average_that_follows_no_more_does_not_keep_the_optimizer(build):
    model = network()
    average, optimizer = WeightAverage(model, Polyak()), build(model.parameters())
    handle = average.attach(optimizer)
    train(model, optimizer, range(3))
    handle.remove()
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None
    average.update()
    assert average.steps == 4


def test_a_handle_that_was_removed_keeps_neither_model_nor_average():
    model = network()
    average, optimizer = WeightAverage(model, Polyak()), AdamW(model.parameters())
    handle = average.attach(optimizer)
    handle.remove()
    alive = weakref.ref(model), weakref.ref(average)
    del model, average, optimizer
    gc.collect()
    assert [each() for each in alive] == [None, None]
    assert not handle.active
