import copy
import itertools
import weakref

import pytest
import torch
from runs import batches, every_profile, network, same, train, trained, values
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from selftune.averaging import EMA, LAWA, BlockLAWA, Polyak, Tail, WeightAverage, average_tensors
from selftune.optim import AdamW, ScheduleFree, ScheduleFreeSGD, attach


@every_profile
def test_inside_swap_the_model_has_the_average_and_afterwards_its_own_weights(profile):
    model, average = trained(profile)
    before, weights = values(model), average.weights()
    with average.swap(model):
        inside = dict(model.named_parameters())
        assert all(torch.equal(inside[name], mean) for name, mean in weights.items())
        assert not torch.equal(inside["0.weight"], before["0.weight"])
    assert same(values(model), before)
    assert same(average.weights(), weights)


@every_profile
def test_swap_keeps_every_tensor_at_its_address(profile):
    model, average = trained(profile)
    tensors = [*model.parameters(), *model.buffers()]
    addresses = [tensor.data_ptr() for tensor in tensors]
    with average.swap(model):
        assert [t.data_ptr() for t in (*model.parameters(), *model.buffers())] == addresses
    assert [t.data_ptr() for t in (*model.parameters(), *model.buffers())] == addresses


@every_profile
def test_training_goes_on_as_if_there_had_been_no_swap(profile):
    model, other = network(), network()
    averages = WeightAverage(model, profile), WeightAverage(other, profile)
    optimizers = AdamW(model.parameters(), lr=0.1), AdamW(other.parameters(), lr=0.1)
    for average, optimizer in zip(averages, optimizers, strict=True):
        average.attach(optimizer)
    for step in range(8):
        train(model, optimizers[0], [step])
        train(other, optimizers[1], [step])
        if step >= 2:
            with averages[0].swap(model):
                model(next(iter(batches([99]))))  # in training mode: BatchNorm moves
    assert same(values(model), values(other))
    assert same(averages[0].state_dict(), averages[1].state_dict())


@every_profile
def test_an_error_inside_swap_costs_nothing(profile):
    model, average = trained(profile)
    before, state = values(model), copy.deepcopy(average.state_dict())
    with pytest.raises(KeyboardInterrupt), average.swap(model):
        raise KeyboardInterrupt
    assert same(values(model), before)
    assert same(average.state_dict(), state)
    with average.swap(model):
        pass


def test_an_error_on_the_way_in_is_undone(monkeypatch):
    model, average = trained(EMA(half_life=3))
    before, state = values(model), copy.deepcopy(average.state_dict())
    trade, calls = average_tensors._exchange_values, itertools.count()

    def out_of_memory_once(a: Tensor, b: Tensor) -> None:
        if next(calls) == 2:
            raise MemoryError
        trade(a, b)

    monkeypatch.setattr(average_tensors, "_exchange_values", out_of_memory_once)
    with pytest.raises(MemoryError), average.swap(model):
        raise AssertionError("not reached")
    assert next(calls) == 5  # two tensors went there and back
    assert same(values(model), before)
    assert same(average.state_dict(), state)


class Copies(TorchDispatchMode):
    """Counts the elements of the copies that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[weakref.ref[Tensor]] = []
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.clone.default:
            self.alive.append(weakref.ref(result))
        copies = [ref() for ref in self.alive]
        self.most = max(self.most, sum(t.numel() for t in copies if t is not None))
        return result


@pytest.mark.parametrize("profile", [EMA(half_life=3), LAWA(3, every=1), BlockLAWA(2, every=1)])
def test_swap_needs_memory_for_one_tensor_only(profile):
    model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(5)))
    average = WeightAverage(model, profile)
    average.update()
    with Copies() as copies, average.swap(model):
        pass
    assert copies.most == 64


def test_swap_twice_is_refused_and_harmless():
    model, average = trained(Polyak())
    other = WeightAverage(model, Polyak())
    other.update()
    before, weights = values(model), average.weights()
    with average.swap(model):
        for nested in (average, other):
            with (
                pytest.raises(RuntimeError, match=r"swap\(\) inside swap\(\)"),
                nested.swap(model),
            ):
                raise AssertionError("not reached")
        assert torch.equal(model[0].weight, weights["0.weight"])
    assert same(values(model), before)


def test_training_inside_swap_is_refused_before_it_does_harm():
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.1)
    average = WeightAverage(model, Polyak())
    handle = average.attach(optimizer)
    train(model, optimizer, range(3))
    before = values(model)
    with average.swap(model):
        inside = copy.deepcopy(list(model.parameters()))
        with pytest.raises(RuntimeError, match=r"optimizer.step\(\) inside swap\(\)"):
            train(model, optimizer, [3])
        assert all(map(torch.equal, model.parameters(), inside))
    handle.remove()
    with average.swap(model), pytest.raises(RuntimeError, match=r"update\(\) inside swap\(\)"):
        average.update()
    with average.swap(model), pytest.raises(RuntimeError, match=r"load_state_dict\(\) inside"):
        average.load_state_dict(average.state_dict())
    with average.swap(model), pytest.raises(RuntimeError, match=r"copy_to\(\) inside swap\(\)"):
        average.copy_to(model)
    assert same(values(model), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda params: ScheduleFreeSGD(params, lr=0.1),
        lambda params: ScheduleFree(torch.optim.SGD(params, lr=0.1)),
    ],
    ids=["ScheduleFreeSGD", "ScheduleFree"],
)
@pytest.mark.parametrize("following", [False, True], ids=["update()", "attach()"])
def test_schedule_free_weights_do_not_move_inside_swap(make, following):
    model = network()
    optimizer, average = make(model.parameters()), WeightAverage(model, Polyak())
    if following:
        with pytest.warns(UserWarning, match="has an average of its own"):
            average.attach(optimizer)
    for step in range(3):
        train(model, optimizer, [step])
        if not following:
            average.update()
    before, weights = values(model), average.weights()
    with (
        average.swap(model),
        pytest.raises(RuntimeError, match=r"\.eval\(\) inside swap\(\).*; call it before swap"),
    ):
        optimizer.eval()
    assert same(values(model), before)
    assert same(average.weights(), weights)
    optimizer.eval()
    at_x = values(model)
    with average.swap(model):
        optimizer.eval()  # it is there already
        with pytest.raises(RuntimeError, match=r"\.train\(\) inside swap\(\)"):
            optimizer.train()
    assert same(values(model), at_x)
    optimizer.train()
    assert not same(values(model), at_x)


def test_an_attached_schedule_free_optimizer_says_so_too():
    model = network()
    optimizer, average = ScheduleFreeSGD(model.parameters(), lr=0.1), WeightAverage(model, Polyak())
    attach(model, optimizer)
    average.attach(optimizer)
    train(model, optimizer, range(3))
    (inputs,) = batches([9])
    with (
        average.swap(model),
        pytest.raises(RuntimeError, match=r"ScheduleFreeSGD\.eval\(\) inside swap\(\)"),
    ):
        model.eval()
    model.eval()
    with torch.no_grad(), average.swap(model):
        model(inputs)
    model.train()(inputs)
    assert optimizer.param_groups[0]["train_mode"]  # it goes on following


def test_an_optimizer_without_evaluation_weights_may_change_its_mode_inside_swap():
    model = network()
    optimizer, average = AdamW(model.parameters(), lr=0.1), WeightAverage(model, Polyak())
    average.attach(optimizer)
    train(model, optimizer, range(3))
    before = values(model)
    with average.swap(model), optimizer.evaluation_weights():
        pass
    assert same(values(model), before)


def test_an_average_can_be_put_into_another_model_of_the_kind():
    _, average = trained(EMA(half_life=3))
    other = network()
    before = values(other)
    with average.swap(other):
        assert torch.equal(other[0].weight, average.weights()["0.weight"])
    assert same(values(other), before)


def test_a_model_of_another_kind_is_refused():
    model, average = trained(Polyak())
    with (
        pytest.raises(ValueError, match=r"'0.weight' should have shape \(4, 3\), but is missing"),
        average.swap(nn.ReLU()),
    ):
        raise AssertionError("not reached")
    other = network()
    other[0] = nn.Linear(3, 5)
    with pytest.raises(ValueError, match=r"copy_to.*should have shape \(4, 3\), but is \(5, 3\)"):
        average.copy_to(other)
    with average.swap(model):
        pass


def test_copy_to_gives_the_average_for_good():
    model, average = trained(LAWA(2, every=3))
    average.copy_to(model)
    weights = average.weights()
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_before_the_first_fold_there_are_no_weights_to_give():
    model = network()
    before = values(model)
    average = WeightAverage(model, Tail(start=5))
    with pytest.warns(UserWarning, match=r"copy_to\(\) leaves the model its own") as caught:
        average.copy_to(model)
    assert caught[0].filename == __file__
    assert same(values(model), before)
    message = r"nothing is averaged after 0 steps by Tail.*: call attach\(optimizer\) .* update\(\)"
    with pytest.raises(RuntimeError, match=message):
        average.weights()


def test_no_memory_is_taken_before_the_first_fold():
    model = network()
    average = WeightAverage(model, Tail(start=3))
    for _ in range(3):
        average.update()
    model.double()  # so late, the model may still change
    average.update()
    assert average.folds == 1
    assert {mean.dtype for mean in average.weights().values()} == {torch.float64}


@pytest.mark.parametrize("outer", ["whole", "part"])
def test_the_average_of_a_part_is_not_swapped_in_or_trained_inside_that_of_the_whole(outer):
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.1)
    whole, part = WeightAverage(model, Polyak()), WeightAverage(model[0], Polyak())
    whole.attach(optimizer)
    part.attach(optimizer)
    train(model, optimizer, range(3))
    before, weights = values(model), [whole.weights(), part.weights()]
    pairs = [(whole, model), (part, model[0])]
    (one, its), (other, others) = pairs if outer == "whole" else pairs[::-1]
    with one.swap(its):
        with pytest.raises(RuntimeError, match=r"inside swap\(\)"), other.swap(others):
            raise AssertionError("not reached")
        with pytest.raises(RuntimeError, match=r"inside swap\(\)"):
            other.copy_to(others)
        with pytest.raises(RuntimeError, match=r"inside swap\(\)"):
            optimizer.step()
    assert same(values(model), before)
    assert same(whole.weights(), weights[0])
    assert same(part.weights(), weights[1])


def test_averages_of_different_parts_are_swapped_in_together():
    model = network()
    averages = [WeightAverage(model[i], Polyak()) for i in (0, 3)]
    optimizer = AdamW(model.parameters(), lr=0.1)
    for average in averages:
        average.attach(optimizer)
    train(model, optimizer, range(3))
    before = values(model)
    with averages[0].swap(model[0]), averages[1].swap(model[3]):
        assert torch.equal(model[0].weight, averages[0].weights()["weight"])
        assert torch.equal(model[3].weight, averages[1].weights()["weight"])
    assert same(values(model), before)
