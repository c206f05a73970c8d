"""Copies, pickles and forks of a WeightAverage go on as the original does."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
from runs import every_profile, network, same, train, values

from selftune.averaging import Polyak, WeightAverage
from selftune.optim import AdamW


def saved_whole(average):
    file = io.BytesIO()
    torch.save(average, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def pickled(average):
    return pickle.loads(pickle.dumps(average))


every_copy = pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved_whole])


def followed(profile, offload=False):
    """A model of three steps that holds its average, and its optimizer."""
    model = network()
    model.average = WeightAverage(model, profile, offload=offload)
    optimizer = AdamW(model.parameters(), lr=0.1)
    model.average.attach(optimizer)
    train(model, optimizer, range(3))
    return model, optimizer


def go_on(model):
    optimizer = AdamW(model.parameters(), lr=0.1)
    model.average.attach(optimizer)
    train(model, optimizer, range(3, 8))


@every_copy
@every_profile
@pytest.mark.parametrize("offload", [False, True])
def test_a_copy_follows_a_copy_of_the_model(profile, offload, copied):
    model, _ = followed(profile, offload)
    other = copied(model)
    model.average._step_hooks.remove()
    for each in (model, other):
        go_on(each)
    assert same(other.average.weights(), model.average.weights())
    with other.average.swap(other), model.average.swap(model):
        assert same(values(other), values(model))


@every_copy
def test_a_copy_that_is_made_inside_swap_has_the_average(copied):
    model, _ = followed(Polyak())
    weights = model.average.weights()
    with model.average.swap(model):
        other = copied(model)
    assert same(other.average.weights(), weights)
    assert torch.equal(other[0].weight, weights["0.weight"])
    go_on(other)
    assert same(model.average.weights(), weights)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("copied", [False, True])
def test_a_forked_process_can_use_and_update_an_offloaded_average(copied):
    context = multiprocessing.get_context("fork")
    model, optimizer = followed(Polyak(), offload=True)
    if copied:
        model = copy.deepcopy(model)
        optimizer = AdamW(model.parameters(), lr=0.1)
        model.average.attach(optimizer)
        train(model, optimizer, range(3))
    results = context.Queue()

    def child():
        train(model, optimizer, range(3, 5))
        results.put({name: mean.numpy() for name, mean in model.average.weights().items()})

    process = context.Process(target=child, daemon=True)
    process.start()
    try:
        theirs = {name: torch.from_numpy(mean) for name, mean in results.get(timeout=60).items()}
    finally:
        process.kill()
    train(model, optimizer, range(3, 5))
    assert same(theirs, model.average.weights())
