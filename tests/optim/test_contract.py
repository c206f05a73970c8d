"""The promises of every public optimizer. A class exported by selftune.optim is under test here."""

from __future__ import annotations

import copy
import functools
import inspect
import io
import math
import pickle
from typing import Any

import pytest
import torch
from contract import (
    CLASSES,
    SHAPES,
    backward,
    every_class,
    every_optimizer,
    same,
    snapshot,
    take_step,
    train,
    twins,
    weights,
    with_decay,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import lr_scheduler

from selftune import optim

# -- what a step reads and writes ---------------------------------------------------------------


@every_optimizer
def test_nothing_is_read_back_to_the_host(cls):
    # Tensors on the meta device hold no numbers: `.item()` raises.
    params = weights(device="meta")
    optimizer = cls([{"params": params[:1]}, {"params": params[1:]}], **with_decay(cls))
    for _ in range(3):
        for p in params:
            p.grad = torch.empty_like(p)
        take_step(optimizer)
    optimizer.eval()
    optimizer.train()


@every_optimizer
def test_gradients_are_never_written(cls):
    params = weights()
    optimizer = cls(params, **with_decay(cls))
    for step in range(3):
        backward(params, step)
        grads = [p.grad for p in params]
        before = [g.clone() for g in grads]
        take_step(optimizer)
        assert all(p.grad is g for p, g in zip(params, grads, strict=True))
        assert all(map(torch.equal, grads, before))


@every_optimizer
def test_parameters_without_a_gradient_are_left_alone(cls):
    params = weights()
    optimizer = cls(params, **with_decay(cls))
    before = params[0].clone()
    for step in range(3):
        backward(params[1:], step)
        take_step(optimizer)
    assert torch.equal(params[0], before)
    assert params[0] not in optimizer.state


@every_optimizer
@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("gradient", [0.0, 1.0])
def test_a_step_with_lr_0_changes_nothing(cls, steps, gradient):
    params, others = weights(), weights()
    optimizer, reference = cls(params, **with_decay(cls)), cls(others, **with_decay(cls))
    train(optimizer, range(steps))
    train(reference, range(steps))
    lr = optimizer.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = 0.0
    for p in params:
        p.grad = torch.full_like(p, gradient)
    take_step(optimizer)
    optimizer.param_groups[0]["lr"] = lr
    train(optimizer, range(steps, steps + 5))
    train(reference, range(steps, steps + 5))
    assert same(snapshot(optimizer, params), snapshot(reference, others))


@every_class
@pytest.mark.filterwarnings("ignore:.* averages in the place of a decaying schedule")
def test_an_lr_in_a_tensor_is_a_number_like_any_other(cls):
    params, others = weights(), weights()
    optimizer = cls(params, lr=torch.tensor(0.5))
    reference = cls(others, lr=0.5)
    train(optimizer, range(5))
    train(reference, range(5))
    optimizer.param_groups[0]["lr"].fill_(0.25)
    reference.param_groups[0]["lr"] = 0.25
    train(optimizer, range(5, 10))
    train(reference, range(5, 10))
    assert same(params, others)


@every_class
def test_an_lr_in_a_tensor_elsewhere_is_refused(cls):
    with pytest.raises(ValueError, match="lr in a tensor must live on the CPU, got meta"):
        cls(weights(), lr=torch.tensor(0.5, device="meta"))


@every_class
def test_parameters_that_take_the_place_of_others_are_what_steps(cls):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(3))
    last, params[-1] = params[-1], params[-1].detach().clone().requires_grad_()
    optimizer.param_groups[0]["params"] = params
    before = copy.deepcopy(last)
    train(optimizer, range(3, 12))
    assert torch.equal(last, before)
    assert not torch.equal(params[-1], before)


@every_optimizer
def test_a_group_with_lr_0_is_frozen_while_another_trains(cls):
    params = weights()
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}], **with_decay(cls))
    train(optimizer, range(3))
    optimizer.param_groups[0]["lr"] = 0.0
    before = copy.deepcopy((params[:2], [optimizer.state[p] for p in params[:2]]))
    moving = params[3].clone()
    train(optimizer, range(3, 6))
    assert same((params[:2], [optimizer.state[p] for p in params[:2]]), before)
    assert not torch.equal(params[3], moving)


@every_optimizer
def test_zero_gradients_do_no_harm(cls):
    params = weights()
    optimizer = cls(params)
    for step in range(6):
        for p in params:
            p.grad = torch.zeros_like(p)
        if step >= 3:
            backward(params, step)
        take_step(optimizer)
    assert all(p.isfinite().all() for p in params)


# -- parameters and groups that come and go -----------------------------------------------------


@every_optimizer
def test_a_late_parameters_first_step_is_a_first_step(cls):
    early, late = weights()[0], weights()[1]
    optimizer = cls([early, late], **with_decay(cls))
    for step in range(20):
        backward([early], step)
        take_step(optimizer)
    early.grad = None
    # A new optimizer knows of the old one only what it has learnt: its 0-d tensors.
    fresh_late = twins([late])[0]
    fresh = cls([fresh_late], **with_decay(cls))
    for name, value in optimizer.param_groups[0].items():
        if isinstance(value, Tensor):
            fresh.param_groups[0][name] = value.clone()
    backward([late], 20)
    backward([fresh_late], 20)
    before = late.clone()
    take_step(optimizer)
    take_step(fresh)
    assert torch.equal(late, fresh_late)
    assert torch.equal(late, before) == (cls is optim.ScheduleFreeRAdam)  # which learns v first


@every_optimizer
def test_every_key_of_a_group_exists_from_construction(cls):
    params = weights()
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}])
    keys = [set(group) for group in optimizer.param_groups]
    train(optimizer, range(3))
    optimizer.eval()
    optimizer.train()
    assert [set(group) for group in optimizer.param_groups] == keys
    assert keys[0] == keys[1]


@every_optimizer
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_group_without_parameters_is_harmless(cls, place):
    params, others = weights(torch.float64), weights(torch.float64)
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}])
    groups = [{"params": others[:2]}, {"params": others[2:]}]
    groups.insert(place, {"params": []})
    with_empty = cls(groups)
    train(optimizer, range(5))
    train(with_empty, range(5))
    assert all(map(torch.equal, params, others))


@every_optimizer
@pytest.mark.parametrize("place", [0, 1])
def test_a_group_without_parameters_lives_where_the_others_do(cls, place):
    params = weights(device="meta")
    groups: list[dict[str, Any]] = [{"params": params}]
    groups.insert(place, {"params": []})
    optimizer = cls(groups)
    for p in params:
        p.grad = torch.empty_like(p)
    take_step(optimizer)
    numbers = [v for group in optimizer.param_groups for v in group.values()]
    assert all(value.is_meta for value in numbers if isinstance(value, Tensor))


@every_optimizer
def test_a_group_added_in_mid_run_trains(cls):
    params = weights()
    optimizer = cls(params[:2])
    train(optimizer, range(5))
    optimizer.add_param_group({"params": params[2:]})
    before = [p.clone() for p in params]
    train(optimizer, range(5, 10))
    assert not any(map(torch.equal, params, before))


@every_optimizer
def test_an_added_group_has_the_keys_and_estimates_of_the_first(cls):
    params = weights()
    optimizer = cls(params[:2])
    train(optimizer, range(5))
    optimizer.add_param_group({"params": params[2:]})
    first, added = optimizer.param_groups
    assert added.keys() == first.keys()
    for name, value in first.items():
        if isinstance(value, Tensor):
            assert torch.equal(added[name], value)
            assert added[name] is not value


@every_class
def test_an_invalid_group_is_not_added(cls):
    params = weights()
    optimizer = cls(params[:2])
    with pytest.raises(ValueError, match="lr must lie in"):
        optimizer.add_param_group({"params": params[2:], "lr": -1.0})
    assert len(optimizer.param_groups) == 1


@every_optimizer
def test_how_parameters_are_grouped_does_not_matter(cls):
    together, apart = weights(torch.float64), weights(torch.float64)
    optimizers = cls(together), cls([{"params": [p]} for p in apart])
    for optimizer in optimizers:
        train(optimizer, range(50))
    # Sums over all parameters are added in another order.
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "cls",
    [cls for cls in CLASSES if not cls.wants_whole_tensors],
    ids=lambda cls: cls.__name__,
)
def test_a_tensor_trains_as_its_pieces_do(cls):
    whole = torch.linspace(-1, 2, 6, dtype=torch.float64).requires_grad_()
    pieces = [piece.requires_grad_() for piece in whole.detach().clone().split([1, 3, 2])]
    optimizers = cls([whole]), cls(pieces)
    for step in range(50):
        backward([whole], step)
        for piece, grad in zip(pieces, whole.grad.split([1, 3, 2]), strict=True):
            piece.grad = grad.clone()
        for optimizer in optimizers:
            take_step(optimizer)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-9, atol=1e-12)


@every_class
def test_parameters_of_several_types_train_together(cls):
    types = [torch.bfloat16, torch.float32, torch.float64]
    params = [p for dtype in types for p in weights(dtype)]
    optimizer = cls(params)
    train(optimizer, range(30))
    assert [p.dtype for p in params] == [dtype for dtype in types for _ in SHAPES]
    assert all(p.isfinite().all() for p in params)
    for p, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                rounded = p.dtype == torch.bfloat16 and name != "compensation"
                assert value.dtype == (torch.float32 if rounded else p.dtype)


@every_class
def test_complex_parameters_train_as_their_real_views(cls):
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(3, 2, dtype=torch.complex128, generator=generator).requires_grad_()
    real = torch.view_as_real(p.detach().clone()).requires_grad_()
    optimizers = cls([p], **with_decay(cls)), cls([real], **with_decay(cls))
    for step in range(20):
        backward([real], step)
        p.grad = torch.view_as_complex(real.grad.clone())
        for optimizer in optimizers:
            take_step(optimizer)
        assert torch.equal(torch.view_as_real(p.detach()), real)
    for optimizer in optimizers:
        optimizer.eval()
    assert torch.equal(torch.view_as_real(p.detach()), real)


@every_optimizer
def test_named_parameters_train_as_unnamed_ones(cls):
    model = nn.Linear(3, 2)
    twin = copy.deepcopy(model)
    named, unnamed = cls(model.named_parameters()), cls(twin.parameters())
    train(named, range(5))
    train(unnamed, range(5))
    assert named.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


DENSE_ONLY = [cls for cls in CLASSES if not cls.takes_sparse]


@pytest.mark.parametrize("cls", DENSE_ONLY, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("steps", [0, 3])
def test_a_sparse_gradient_is_refused_clearly(cls, steps):
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = cls(embedding.parameters())
    train(optimizer, range(steps))
    embedding.zero_grad()
    embedding(torch.tensor([1, 3])).sum().backward()
    with pytest.raises(RuntimeError, match=rf"{cls.__name__} takes dense gradients.*\(5, 2\)"):
        optimizer.step()


# -- checkpoints and copies ---------------------------------------------------------------------

TOTAL = 12
stops = st.integers(0, TOTAL)
types = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.complex64])


def uninterrupted(cls: type, dtype: torch.dtype) -> tuple[Any, list[Tensor]]:
    params = weights(dtype)
    optimizer = cls(params, **with_decay(cls))
    train(optimizer, range(TOTAL))
    return optimizer, params


@functools.cache
def end_of_uninterrupted(cls: type, dtype: torch.dtype) -> Any:
    return snapshot(*uninterrupted(cls, dtype))


@every_optimizer
@given(stop=stops, dtype=types)
@settings(max_examples=10)
def test_a_checkpoint_resumes_bit_for_bit(cls, stop, dtype):
    params = weights(dtype)
    optimizer = cls(params, **with_decay(cls))
    train(optimizer, range(stop))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed_params = twins(params)
    resumed = cls(resumed_params)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train(resumed, range(stop, TOTAL))
    assert same(snapshot(resumed, resumed_params), end_of_uninterrupted(cls, dtype))


@every_optimizer
def test_a_checkpoint_is_read_with_weights_only(cls):
    optimizer, _ = uninterrupted(cls, torch.float32)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert same(torch.load(file, weights_only=True), optimizer.state_dict())


@every_optimizer
def test_a_checkpoint_taken_at_the_evaluation_weights_resumes(cls):
    optimizer, params = uninterrupted(cls, torch.float64)
    optimizer.eval()
    resumed_params = twins(params)
    resumed = cls(resumed_params)
    # As torch's own optimizers do, one that loads a state shares its tensors.
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, resumed):
        each.train()
        train(each, range(3))
    assert same(snapshot(resumed, resumed_params), snapshot(optimizer, params))


@every_class
def test_a_checkpoint_is_loaded_to_where_the_parameters_are(cls):
    optimizer, _ = uninterrupted(cls, torch.float32)
    params = weights(device="meta")
    resumed = cls(params)
    resumed.load_state_dict(optimizer.state_dict())
    for values in (*resumed.state.values(), *resumed.param_groups):
        assert all(value.is_meta for value in values.values() if isinstance(value, Tensor))
    for p in params:
        p.grad = torch.empty_like(p)
    take_step(resumed)


@every_optimizer
@given(stop=stops, dtype=types)
@settings(max_examples=5)
def test_a_deep_copy_goes_on_identically(cls, stop, dtype):
    params = weights(dtype)
    optimizer = cls(params, **with_decay(cls))
    train(optimizer, range(stop))
    copied_params, copied = copy.deepcopy((params, optimizer))
    train(copied, range(stop, TOTAL))
    assert same(snapshot(copied, copied_params), end_of_uninterrupted(cls, dtype))


@every_optimizer
@given(stop=stops, dtype=types)
@settings(max_examples=5)
def test_a_pickled_optimizer_goes_on_identically(cls, stop, dtype):
    params = weights(dtype)
    optimizer = cls(params, **with_decay(cls))
    train(optimizer, range(stop))
    copied_params, copied = pickle.loads(pickle.dumps((params, optimizer)))
    train(copied, range(stop, TOTAL))
    assert same(snapshot(copied, copied_params), end_of_uninterrupted(cls, dtype))


@every_optimizer
def test_runs_are_deterministic(cls):
    first, second = uninterrupted(cls, torch.float32), uninterrupted(cls, torch.float32)
    assert same(snapshot(*first), snapshot(*second))


# -- closures, hooks, schedulers ----------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("grad_enabled", [True, False])
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(cls, grad_enabled):
    params, others = weights(), weights()
    with_closure, without = cls(params), cls(others)

    def closure() -> Tensor:
        with_closure.zero_grad()
        loss = sum((p**2).sum() for p in params)
        loss.backward()
        return loss

    for _ in range(3):
        without.zero_grad()
        loss = sum((p**2).sum() for p in others)
        loss.backward()
        take_step(without, loss)
        with torch.set_grad_enabled(grad_enabled):
            assert torch.equal(with_closure.step(closure), loss)
        assert all(map(torch.equal, params, others))


@every_optimizer
def test_step_hooks_run(cls):
    calls = []
    optimizer = cls(weights())
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(optimizer, range(2))
    assert calls == ["before", "after"] * 2


SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=8),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(
        o, max_lr=0.1, total_steps=10, cycle_momentum=False
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.ExponentialLR(o, 0.5)],
        milestones=[3],
    ),
}


@every_optimizer
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:.* averages in the place of a decaying schedule")
def test_a_torch_scheduler_sets_lr_as_one_would_by_hand(cls, scheduler):
    params, others = weights(), weights()
    scheduled, by_hand = cls(params), cls(others)
    plan = SCHEDULERS[scheduler](scheduled)
    arguments = [1.0] if scheduler == "ReduceLROnPlateau" else []
    lrs = set()
    for step in range(10):
        lr = scheduled.param_groups[0]["lr"]
        lrs.add(lr)
        by_hand.param_groups[0]["lr"] = lr
        train(scheduled, [step])
        train(by_hand, [step])
        plan.step(*arguments)
    assert len(lrs) > 2
    assert all(map(torch.equal, params, others))
    assert all(p.isfinite().all() for p in params)


TAKES_TENSOR_LR = [cls for cls in CLASSES if not cls.__name__.startswith("ScheduleFree")]


@pytest.mark.filterwarnings("ignore:.* finds its own step size, which lr multiplies")
@pytest.mark.parametrize("cls", TAKES_TENSOR_LR, ids=lambda cls: cls.__name__)
def test_an_lr_in_a_tensor_equals_the_float(cls):
    params, others = weights(torch.float64), weights(torch.float64)
    as_tensor = cls(params, lr=torch.tensor(0.01, dtype=torch.float64), **with_decay(cls))
    as_float = cls(others, lr=0.01, **with_decay(cls))
    train(as_tensor, range(20))
    train(as_float, range(20))
    # A tensor multiplies in another order than a float passed as `value=`.
    torch.testing.assert_close(params, others, rtol=1e-10, atol=1e-12)


# -- training and evaluation weights ------------------------------------------------------------


@every_optimizer
def test_an_optimizer_starts_at_the_training_weights(cls):
    params = weights()
    before = twins(params)
    optimizer = cls(params)
    optimizer.train()
    assert all(map(torch.equal, params, before))
    train(optimizer, range(1))


@every_optimizer
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_switching_twice_is_switching_once(cls, mode):
    optimizer, params = uninterrupted(cls, torch.float32)
    getattr(optimizer, mode)()
    before = twins(params)
    getattr(optimizer, mode)()
    assert all(map(torch.equal, params, before))


@every_optimizer
def test_train_undoes_eval(cls):
    optimizer, params = uninterrupted(cls, torch.float64)
    before = twins(params)
    for _ in range(10):
        optimizer.eval()
        optimizer.train()
    # Each switch rounds once or twice.
    torch.testing.assert_close(params, before, rtol=1e-13, atol=1e-14)


@every_optimizer
def test_switching_leaves_parameters_without_a_gradient_alone(cls):
    params = weights()
    optimizer = cls(params)
    before = twins(params)
    optimizer.eval()
    assert all(map(torch.equal, params, before))
    optimizer.train()
    assert all(map(torch.equal, params, before))


@every_optimizer
def test_evaluation_weights_are_those_of_eval(cls):
    optimizer, params = uninterrupted(cls, torch.float32)
    with optimizer.evaluation_weights():
        inside = twins(params)
    optimizer.train()
    optimizer.eval()
    torch.testing.assert_close(inside, params)


class Interruption(Exception):
    pass


@every_optimizer
def test_training_weights_come_back_after_an_exception(cls):
    optimizer, params = uninterrupted(cls, torch.float64)
    before = twins(params)
    with pytest.raises(Interruption), optimizer.evaluation_weights():
        raise Interruption
    torch.testing.assert_close(params, before, rtol=1e-13, atol=1e-14)
    take_step(optimizer)


@every_optimizer
def test_evaluation_weights_stay_when_they_were_there_before(cls):
    optimizer, params = uninterrupted(cls, torch.float32)
    optimizer.eval()
    before = twins(params)
    with optimizer.evaluation_weights():
        assert all(map(torch.equal, params, before))
    assert all(map(torch.equal, params, before))
    with pytest.raises(RuntimeError):
        take_step(optimizer)


@every_optimizer
def test_a_step_at_the_evaluation_weights_is_refused(cls):
    optimizer, params = uninterrupted(cls, torch.float32)
    optimizer.eval()
    before = snapshot(optimizer, params)
    called = []
    said = rf"{cls.__name__}\.step\(\) at the evaluation weights; call optimizer\.train\(\) first"
    with pytest.raises(RuntimeError, match=said):
        optimizer.step(lambda: called.append("closure"))
    assert same(snapshot(optimizer, params), before)
    assert not called


# -- options ------------------------------------------------------------------------------------

NONNEGATIVE = ("[0, inf)", [-1.0, math.inf, math.nan])
POSITIVE = ("(0, inf)", [-1.0, 0.0, math.inf, math.nan])
DECAY = ("[0, 1)", [-0.1, 1.0, 1.5, math.nan])
INTERPOLATION = ("(0, 1]", [-0.1, 0.0, 1.5, math.nan])

ADAM = {
    "lr": NONNEGATIVE,
    "betas[0]": DECAY,
    "betas[1]": DECAY,
    "eps": NONNEGATIVE,
    "weight_decay": NONNEGATIVE,
}
AVERAGING = {"lr": NONNEGATIVE, "weight_decay": NONNEGATIVE, "r": NONNEGATIVE}
STEPS = ("{0, 1, 2, ...}", [-1, 2.5, math.inf, math.nan])
WARMUP = {"warmup_steps": STEPS}
AVERAGED_ADAM = AVERAGING | {
    "betas[0]": INTERPOLATION,
    "eps": NONNEGATIVE,
    "decay_at": ("{x, y, z}", ["w", None]),
    "inner_momentum": DECAY,
    "averaging_constant": POSITIVE,
}
DISTANCE = {"d0": POSITIVE, "growth_rate": ("[1, inf]", [0.99, -1.0, math.nan])}
SLICED = {"slice_p": ("{1, 2, ...}", [0, -1, 2.5])}
OVER_GRADIENTS = {"lr": NONNEGATIVE, "reps_rel": POSITIVE, "weight_decay": NONNEGATIVE}
FLAGS = {"compile", "use_bias_correction", "safeguard_warmup"}

INVALID = {
    "AdamW": ADAM,
    "NAdamW": ADAM,
    "ScheduleFreeSGD": AVERAGING | WARMUP | {"momentum": INTERPOLATION},
    "ScheduleFreeAdamW": AVERAGED_ADAM | WARMUP | {"betas[1]": DECAY},
    "ScheduleFreeRAdam": AVERAGED_ADAM | {"betas[1]": ("(0.6, 1)", [0.6, 1.0, math.nan])},
    "Prodigy": ADAM | DISTANCE | SLICED | {"beta3": DECAY, "d_coef": POSITIVE},
    "ScheduleFreeProdigy": AVERAGING
    | DISTANCE
    | SLICED
    | {"betas[0]": INTERPOLATION, "betas[1]": DECAY, "eps": NONNEGATIVE, "d_coef": POSITIVE},
    "ScheduleFreePlus": ADAM
    | AVERAGING
    | {
        "beta": INTERPOLATION,
        "c_warmup": STEPS,
        "beta_max": DECAY,
        "anneal_steps": STEPS,
        "polyak_beta": DECAY,
        "max_step_size": ("(0, inf]", [-1.0, 0.0, math.nan]),
    },
    "DAdaptSGD": DISTANCE | {"lr": NONNEGATIVE, "weight_decay": NONNEGATIVE, "momentum": DECAY},
    "DAdaptAdaGrad": DISTANCE
    | {"lr": NONNEGATIVE, "weight_decay": NONNEGATIVE, "momentum": DECAY, "eps": POSITIVE},
    "DAdaptAdam": ADAM | DISTANCE | {"eps": POSITIVE},
    "DoG": OVER_GRADIENTS,
    "DoWG": OVER_GRADIENTS,
    "LDoG": OVER_GRADIENTS,
    "SelfTune": {"lr": NONNEGATIVE, "weight_decay": NONNEGATIVE},
}


@pytest.mark.parametrize(
    ("cls", "option", "valid", "value"),
    [
        pytest.param(cls, option, valid, value, id=f"{cls.__name__}-{option}-{value}")
        for cls in CLASSES
        for option, (valid, values) in INVALID.get(cls.__name__, {}).items()
        for value in values
    ],
)
def test_an_option_out_of_range_is_refused_by_name(cls, option, valid, value):
    betas = {"betas[0]": (value, 0.99), "betas[1]": (0.9, value)}
    options = {"betas": betas[option]} if option in betas else {option: value}
    with pytest.raises(ValueError) as error:
        cls(weights(), **options)
    assert str(error.value) == f"{option} must lie in {valid}, got {value}"


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if "betas" in inspect.signature(cls).parameters]
)
@pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 0.99, 0.999)])
def test_betas_are_a_pair(cls, betas):
    with pytest.raises(ValueError, match=r"betas must be a pair of numbers, got \(?0\.9"):
        cls(weights(), betas=betas)


def test_a_rule_that_lacks_a_part_is_refused_before_it_trains():
    class Half(optim.Optimizer):
        def check(self, group):
            pass

    with pytest.raises(TypeError, match=r"advance.*init_state.*update"):
        Half(weights(), {"lr": 0.1})


@every_class
def test_every_option_of_a_constructor_is_checked(cls):
    options = set(inspect.signature(cls).parameters) - {"params"} - FLAGS
    assert {name.split("[")[0] for name in INVALID[cls.__name__]} == options
