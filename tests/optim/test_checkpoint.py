"""Loading: types, what is missing, what was replaced behind the optimizer's back."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from contract import CLASSES, every_class, every_optimizer, same, snapshot, train, twins, weights
from torch import Tensor

from selftune.optim import AdamW, DAdaptAdaGrad, DAdaptSGD, Prodigy, ScheduleFreeAdamW
from selftune.optim.dog import DistanceOverGradients


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


COUNTS = [
    cls for cls in CLASSES if not issubclass(cls, (DAdaptSGD, DAdaptAdaGrad, DistanceOverGradients))
]


@pytest.mark.parametrize("cls", COUNTS, ids=lambda cls: cls.__name__)
def test_a_count_that_an_older_state_lacks_starts_as_in_a_new_one(cls):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(3))
    older = copy.deepcopy(optimizer.state_dict())
    for state in older["state"].values():
        del state["step"]
    own = weights()
    new = cls(own)
    new.load_state_dict(older)
    assert {state["step"] for state in new.state.values()} == {0}
    train(new, range(3, 6))
    assert all(p.isfinite().all() for p in own)


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


# -- states that are not this optimizer's -------------------------------------------------------


def refused(optimizer: torch.optim.Optimizer, state_dict: dict, message: str) -> None:
    """Loading raises, and changes nothing."""
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(copy.deepcopy(state_dict))
    assert same(optimizer.state_dict(), before)


@every_optimizer
def test_what_is_no_optimizers_state_dict_is_refused_with_what_to_pass(cls):
    optimizer = cls(weights())
    own, model = optimizer.state_dict(), torch.nn.Linear(1, 1)
    layers = torch.nn.Sequential(model, torch.nn.Linear(1, 1))
    for given, message in [
        (
            {"model": model.state_dict(), "optimizer": own},
            r"keys 'model', 'optimizer': if .* whole checkpoint, pass checkpoint\['optimizer'\]$",
        ),
        (
            layers.state_dict(),
            r"keys '0.weight', '0.bias', '1.weight', \.\.\.: pass what optimizer.state_dict\(\)",
        ),
        ({}, "got an empty dict: pass what"),
        (Path("last.pt"), r"got the path 'last.pt': pass what .* as torch.load\(path\) reads it"),
        ("last.pt", "got the path 'last.pt': "),
        (torch.optim.SGD(weights(), lr=1.0), r"got the optimizer SGD: pass its state_dict\(\)"),
        (None, "got an object of type NoneType: pass what"),
    ]:
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(given)
    optimizer.load_state_dict(own)


@every_class
@pytest.mark.parametrize("steps", [0, 2])
def test_the_state_of_another_of_our_methods_is_refused(cls, steps):
    optimizer = cls(weights())
    train(optimizer, range(steps))
    for other in set(CLASSES) - {cls}:
        refused(other(weights()), optimizer.state_dict(), f"that of {cls.__name__}, not of")


TORCHS = ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adamax", "Adadelta"]


@pytest.mark.parametrize("theirs", TORCHS)
@pytest.mark.parametrize("steps", [0, 2])
def test_the_state_of_an_optimizer_of_torchs_is_refused(theirs, steps):
    optimizer = getattr(torch.optim, theirs)(weights(), lr=1e-3)
    train(optimizer, range(steps))
    for cls in CLASSES:
        if (theirs, cls.__name__) != ("AdamW", "AdamW"):
            refused(cls(weights()), optimizer.state_dict(), "that of another optimizer, not of")


def test_adamw_goes_on_from_torchs_adamw():
    params = weights(torch.float64)
    theirs = torch.optim.AdamW(params, lr=0.01)
    train(theirs, range(3))
    own = twins(params)
    ours = AdamW(own)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    train(theirs, range(3, 6))
    train(ours, range(3, 6))
    torch.testing.assert_close(own, params, rtol=1e-12, atol=1e-14)


@every_class
def test_a_state_from_before_methods_were_named_is_known_by_its_tensors(cls):
    optimizer = cls(weights())
    train(optimizer, range(2))
    older = copy.deepcopy(optimizer.state_dict())
    for group in older["param_groups"]:
        del group["method"]
    cls(weights()).load_state_dict(copy.deepcopy(older))
    for state in older["state"].values():
        name = next(name for name, value in state.items() if isinstance(value, Tensor))
        state["other"] = state.pop(name)
    refused(cls(weights()), older, rf"another method's, not {cls.__name__}'s: it lacks \['{name}")


@every_class
def test_a_state_of_another_shape_is_named_when_it_is_loaded(cls):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(2))
    others = weights()
    others[1] = torch.ones(7, requires_grad=True)
    name = next(n for n, v in optimizer.state[params[1]].items() if getattr(v, "shape", ()) != ())
    refused(cls(others), optimizer.state_dict(), rf"{name!r} of parameter 1 .* \(4,\), .* \(7,\)")


def test_a_state_of_another_shape_is_named_by_the_parameters_name():
    optimizer, other = (AdamW(torch.nn.Linear(n, 2).named_parameters()) for n in (3, 5))
    train(optimizer, range(1))
    refused(other, optimizer.state_dict(), r"'exp_avg' of 'weight' has the shape \(2, 3\)")


@every_class
@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("lr", float("nan")), ("lr", "auto")])
def test_a_state_with_an_option_out_of_range_is_refused(cls, name, value):
    optimizer = cls(weights())
    train(optimizer, range(2))
    saved = optimizer.state_dict()
    saved["param_groups"][0][name] = value
    refused(cls(weights()), saved, f"{name} must")


def test_a_users_subclass_goes_on_from_the_class_that_it_is_made_of():
    class Mine(Prodigy):
        pass

    optimizer = Prodigy(weights())
    train(optimizer, range(2))
    Mine(weights()).load_state_dict(optimizer.state_dict())
