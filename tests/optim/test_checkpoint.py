"""Loading: types, what is missing, what was replaced behind the optimizer's back."""

from __future__ import annotations

import copy

import pytest
import torch
from contract import every_class, every_optimizer, same, snapshot, train, twins, weights
from torch import Tensor

from selftune.optim import Prodigy, ScheduleFreeAdamW


def resumed(cls: type, optimizer: torch.optim.Optimizer, params: list[Tensor]):
    """A new optimizer for copies of the parameters, with the other one's state loaded."""
    own = twins(params)
    new = cls(own)
    new.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return new, own


@every_class
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.complex64])
def test_state_keeps_its_type_through_a_checkpoint(cls, dtype):
    params = weights(dtype)
    optimizer = cls(params)
    train(optimizer, range(3))
    new, own = resumed(cls, optimizer, params)
    for p, q in zip(params, own, strict=True):
        assert same(new.state[q], optimizer.state[p])


@every_class
def test_a_checkpoint_of_other_types_is_loaded_as_ones_own(cls):
    optimizer = cls(weights(torch.float64))
    train(optimizer, range(3))
    params = weights(torch.bfloat16)
    new = cls(params)
    new.load_state_dict(optimizer.state_dict())
    types = {v.dtype for s in new.state.values() for v in s.values() if isinstance(v, Tensor)}
    assert types <= {torch.float32, torch.bfloat16}
    numbers = [v for group in new.param_groups for v in group.values() if isinstance(v, Tensor)]
    assert all(number.dtype == torch.float32 for number in numbers)
    train(new, range(3))
    assert all(p.isfinite().all() for p in params)


@every_class
def test_hooks_see_and_change_what_is_loaded(cls):
    params = weights(torch.bfloat16)
    optimizer = cls(params)
    train(optimizer, range(3))
    own = twins(params)
    new = cls(own)

    def double(_, state_dict):
        state = {
            i: {name: 2 * value for name, value in state.items()}
            for i, state in state_dict["state"].items()
        }
        return {**state_dict, "state": state}

    seen = []
    new.register_load_state_dict_pre_hook(double)
    new.register_load_state_dict_post_hook(lambda o: seen.append(copy.deepcopy(o.state)))
    new.load_state_dict(optimizer.state_dict())
    for p, q, loaded in zip(params, own, seen[0].values(), strict=True):
        doubled = {name: 2 * value for name, value in optimizer.state[p].items()}
        assert same(new.state[q], doubled)
        assert same(loaded, doubled)


@every_class
def test_what_an_older_checkpoint_lacks_has_its_default(cls):
    params, others = weights(), weights()
    optimizer, reference = cls(params), cls(others)
    older = optimizer.state_dict()
    for group in older["param_groups"]:
        for name in list(group):
            if name not in ("lr", "params"):
                del group[name]
    optimizer.load_state_dict(older)
    train(optimizer, range(5))
    train(reference, range(5))
    assert same(snapshot(optimizer, params), snapshot(reference, others))


@every_class
def test_what_an_older_state_lacks_starts_as_in_a_new_one(cls):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(3))
    older = copy.deepcopy(optimizer.state_dict())
    lacking = next(name for name in reversed(older["state"][0]))
    for state in older["state"].values():
        del state[lacking]
    own = weights()
    new = cls(own)
    new.load_state_dict(older)
    train(new, range(3, 6))
    assert all(p.isfinite().all() for p in own)
    assert all(set(s) == set(optimizer.state[params[0]]) for s in new.state.values())


@every_class
def test_compile_is_a_matter_of_the_run_not_of_the_checkpoint(cls):
    optimizer = cls(weights(), compile=True)
    new = cls(weights())
    new.load_state_dict(optimizer.state_dict())
    assert new.param_groups[0]["compile"] is False


@every_class
def test_steps_saved_as_tensors_or_floats_are_counts_again(cls):
    # Tools that store tensors only make them so.
    optimizer = cls(weights())
    train(optimizer, range(3))
    as_tensors = copy.deepcopy(optimizer.state_dict())
    for state in as_tensors["state"].values():
        for name, value in state.items():
            if not isinstance(value, Tensor):
                state[name] = torch.tensor(value, dtype=torch.float64)
    new = cls(weights())
    new.load_state_dict(as_tensors)
    assert same(new.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_numbers_saved_as_tensors_are_not_rounded_to_bfloat16(dtype):
    # torch casts them to the parameter's type: 16,777,217 becomes 16,777,216.
    params = weights(torch.bfloat16)
    optimizer = ScheduleFreeAdamW(params)
    train(optimizer, range(1))
    saved = copy.deepcopy(optimizer.state_dict())
    numbers = {k for k, value in saved["state"][0].items() if not isinstance(value, Tensor)}
    assert numbers == {"step", "lr_max", "weight_sum", "beta"}
    for state in saved["state"].values():
        state.update(dict.fromkeys(numbers, torch.tensor(16_777_217, dtype=dtype)))
    optimizer.load_state_dict(saved)
    loaded = [optimizer.state[p][name] for p in params for name in numbers]
    assert set(loaded) == {16_777_217}


@every_optimizer
def test_a_state_looked_up_too_early_is_none(cls):
    # optimizer.state is a defaultdict: a look-up leaves an empty state behind.
    params, others = weights(), weights()
    optimizer, reference = cls(params), cls(others)
    for p in params:
        _ = optimizer.state[p]
    optimizer.eval()
    optimizer.train()
    train(optimizer, range(3))
    train(reference, range(3))
    assert same(snapshot(optimizer, params), snapshot(reference, others))


@every_class
def test_a_state_exchanged_from_outside_is_the_one_used(cls):
    params, others = weights(), weights()
    optimizer, reference = cls(params), cls(others)
    train(optimizer, range(3))
    train(reference, range(3))
    for p in params:
        optimizer.state[p] = copy.deepcopy(optimizer.state[p])
    train(optimizer, range(3, 6))
    train(reference, range(3, 6))
    assert same(snapshot(optimizer, params), snapshot(reference, others))


def test_an_estimate_saved_as_a_number_is_loaded_to_its_tensor():
    optimizer = Prodigy(weights())
    saved = optimizer.state_dict()
    saved["param_groups"][0]["d"] = 0.25
    optimizer.load_state_dict(saved)
    assert same(optimizer.param_groups[0]["d"], torch.tensor(0.25))
