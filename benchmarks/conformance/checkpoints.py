"""Checkpoints and copies."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint import state_dict as distributed

from benchmarks.conformance.problem import (
    FLAGS,
    Make,
    assert_same_future,
    check,
    loaded,
    same,
    train,
    trained,
    twins,
    weights,
)


@check
def it_can_be_printed(make: Make) -> None:
    optimizer, _ = trained(make)
    assert type(optimizer).__name__ in repr(optimizer)


@check
def a_step_leaves_state(make: Make) -> None:
    optimizer, params = trained(make)
    assert all(optimizer.state[p] for p in params)


@check
def groups_have_all_keys_from_the_start(make: Make) -> None:
    optimizer = make(weights())
    keys = set(optimizer.param_groups[0])
    train(optimizer, range(3))
    assert set(optimizer.param_groups[0]) == keys


@check
def a_run_resumes_bit_for_bit_from_any_step(make: Make) -> None:
    for stop in range(6):
        optimizer, params = trained(make, stop)
        other, others = loaded(make, params, copy.deepcopy(optimizer.state_dict()))
        assert_same_future(optimizer, params, other, others)


@check
def named_and_unnamed_state_dicts_load_into_each_other(make: Make) -> None:
    def named(params: list[Tensor]) -> Any:
        return [(str(i), p) for i, p in enumerate(params)]

    for save, load in ((named, list), (list, named), (named, named)):
        params = weights()
        optimizer = make(save(params))
        train(optimizer, range(3))
        others = twins(params)
        other = make(load(others))
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert_same_future(optimizer, params, other, others)


@check
def a_checkpoint_loads_with_weights_only(make: Make) -> None:
    optimizer, params = trained(make)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other, others = loaded(make, params, torch.load(file, weights_only=True))
    assert_same_future(optimizer, params, other, others)


@check
def groups_of_older_checkpoints_may_lack_flags(make: Make) -> None:
    optimizer, params = trained(make)
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        for flag in FLAGS:
            group.pop(flag, None)
    other, others = loaded(make, params, saved)
    assert_same_future(optimizer, params, other, others)


@check
def steps_may_be_saved_as_numbers_or_tensors(make: Make) -> None:
    optimizer, params = trained(make)
    kinds: list[Callable[[Any], Any]] = [float, lambda step: torch.tensor(float(step))]
    for kind in kinds:
        saved = copy.deepcopy(optimizer.state_dict())
        for state in saved["state"].values():
            if "step" in state:
                state["step"] = kind(state["step"])
        other, others = loaded(make, params, saved)
        train(other, range(3))
        assert all(p.isfinite().all() for p in others)


@check
def state_of_bfloat16_parameters_keeps_its_type(make: Make) -> None:
    optimizer, params = trained(make, dtype=torch.bfloat16)
    other, others = loaded(make, params, copy.deepcopy(optimizer.state_dict()))
    assert_same_future(optimizer, params, other, others)


@check
def state_dict_hooks_run(make: Make) -> None:
    optimizer, _ = trained(make)
    calls: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda _: calls.append("pre"))
    optimizer.register_state_dict_post_hook(lambda _, saved: {**saved, "more": calls.append("x")})
    assert "more" in optimizer.state_dict()
    assert calls == ["pre", "x"]


@check
def load_state_dict_hooks_run(make: Make) -> None:
    optimizer, params = trained(make)
    calls: list[str] = []

    def replace(_: Any, saved: dict[str, Any]) -> dict[str, Any]:
        calls.append("pre")
        groups = [{**group, "lr": 0.125} for group in saved["param_groups"]]
        return {**saved, "param_groups": groups}

    other = make(twins(params))
    other.register_load_state_dict_pre_hook(replace)
    other.register_load_state_dict_post_hook(lambda _: calls.append("post"))
    other.load_state_dict(optimizer.state_dict())
    assert calls == ["pre", "post"]
    assert other.param_groups[0]["lr"] == 0.125


@check
def a_deep_copy_has_all_public_attributes(make: Make) -> None:
    optimizer, params = trained(make)
    copied_params, copied = copy.deepcopy((params, optimizer))
    public = {name for name in vars(optimizer) if not name.startswith("_")}
    assert public <= vars(copied).keys()
    assert_same_future(optimizer, params, copied, copied_params)


@check
def a_pickled_optimizer_goes_on(make: Make) -> None:
    optimizer, params = trained(make)
    copied_params, copied = pickle.loads(pickle.dumps((params, optimizer)))
    assert_same_future(optimizer, params, copied, copied_params)


@check
def the_step_with_lr_0_that_makes_state_is_none(make: Make) -> None:
    for steps in (0, 5):
        optimizer, params = trained(make, steps)
        other, others = trained(make, steps)
        lr = optimizer.param_groups[0]["lr"]
        optimizer.param_groups[0]["lr"] = 0.0
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        optimizer.param_groups[0]["lr"] = lr
        train(optimizer, range(5, 10))
        train(other, range(5, 10))
        assert same(params, others)


def _distributed_checkpoint(make: Make, flatten: bool) -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    def state(of: nn.Module, optimizer: Any) -> Any:
        options = distributed.StateDictOptions(flatten_optimizer_state_dict=flatten)
        return dict(
            zip(
                ("model", "optimizer"),
                distributed.get_state_dict(of, optimizer, options=options),
                strict=True,
            )
        )

    one, other = model(), model()
    optimizer, resumed = make(one.parameters()), make(other.parameters())
    train(optimizer, range(5))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(state(one, optimizer), checkpoint_id=folder, no_dist=True)
        loaded = state(other, resumed)
        checkpoint.load(loaded, checkpoint_id=folder, no_dist=True)
    distributed.set_state_dict(
        other,
        resumed,
        model_state_dict=loaded["model"],
        optim_state_dict=loaded["optimizer"],
        options=distributed.StateDictOptions(flatten_optimizer_state_dict=flatten),
    )
    assert_same_future(optimizer, [*one.parameters()], resumed, [*other.parameters()])


@check
def a_distributed_checkpoint_resumes(make: Make) -> None:
    _distributed_checkpoint(make, flatten=False)


@check
def a_flattened_distributed_checkpoint_resumes(make: Make) -> None:
    _distributed_checkpoint(make, flatten=True)
