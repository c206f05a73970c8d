"""Steps with gradients that are not finite, and estimates that would not be."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import (
    backward,
    every_class,
    same,
    snapshot,
    take_step,
    train,
    twins,
    weights,
    with_decay,
)
from torch import Tensor

from selftune import optim
from selftune.averaging import Polyak, WeightAverage
from selftune.optim import (
    AdamW,
    DAdaptSGD,
    DoG,
    DoWG,
    LDoG,
    Prodigy,
    ScheduleFree,
    ScheduleFreeSGD,
)
from selftune.optim.engine import skipped_steps
from selftune.optim.engine.cohorts import Bucket
from selftune.optim.engine.precision import run
from selftune.optim.optimizer import write
from selftune.tensor_list import TensorList


@pytest.fixture(params=["host", "device"], autouse=True)
def verdict(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the answer is read: `device` runs on the CPU what accelerators run."""
    if request.param == "device":
        monkeypatch.setattr(skipped_steps, "known_at_once", lambda ok: False)
    return request.param


def spoil(params: list[Tensor], step: int, value: float = math.nan) -> None:
    """Gradients of which one is not finite."""
    backward(params, step)
    params[1].grad[2] = value


def skip(optimizer: torch.optim.Optimizer) -> None:
    """A step that is skipped; its warning is another test's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        take_step(optimizer)
        optimizer.state_dict()  # by then a device has answered


@every_class
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_a_step_with_a_gradient_that_is_not_finite_is_skipped_whole(cls, value, dtype):
    params = weights(dtype)
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}], **with_decay(cls))
    train(optimizer, range(3))
    before = snapshot(optimizer, params)
    spoil(params, 3, value)
    skip(optimizer)
    for group in before[1]["param_groups"]:
        group["skipped_steps"] = 1
    assert same(snapshot(optimizer, params), before)


@every_class
def test_the_first_step_can_be_skipped(cls):
    params = weights()
    before = twins(params)
    optimizer = cls(params)
    spoil(params, 0)
    skip(optimizer)
    assert all(map(torch.equal, params, before))
    train(optimizer, range(3))
    reference = cls(before)
    train(reference, range(3))
    assert all(map(torch.equal, params, before))


@every_class
def test_training_goes_on_as_if_there_had_been_no_skipped_step(cls):
    params, others = weights(), weights()
    optimizer, reference = cls(params, **with_decay(cls)), cls(others, **with_decay(cls))
    for step in range(12):
        if step % 3 == 1:
            spoil(params, step)
            skip(optimizer)
        train(optimizer, [step])
        train(reference, [step])
    for group in reference.param_groups:
        group["skipped_steps"] = 4
    assert same(snapshot(optimizer, params), snapshot(reference, others))


@every_class
def test_parameters_without_a_gradient_rest_in_a_skipped_step(cls):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(3))
    before = copy.deepcopy(optimizer.state[params[0]])
    spoil(params, 3)
    params[0].grad = None
    skip(optimizer)
    assert same(optimizer.state[params[0]], before)


@every_class
def test_skipped_steps_are_counted_and_reported_once(cls, verdict):
    params = weights()
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}])
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        for step in range(6):
            if step % 2:
                backward(params, step)
            else:
                spoil(params, step)
            optimizer.step(loss=1.0)  # here, as the warning points here
    assert len(reported) == 1
    assert f"{cls.__name__} skipped a step" in str(reported[0].message)
    assert verdict == "device" or reported[0].filename == __file__
    assert [group["skipped_steps"] for group in optimizer.param_groups] == [3, 3]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@every_class
def test_a_copy_after_a_skipped_step_counts_as_if_there_had_been_none(
    cls, copied: Callable[[Any], Any]
):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(3))
    before = copy.deepcopy([dict(state) for state in optimizer.state.values()])
    spoil(params, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        take_step(optimizer)
        assert same([dict(state) for state in copied(optimizer).state.values()], before)


def test_the_evaluation_weights_after_a_skipped_step_are_those_before_it():
    # y was made with the beta of the step before, and the skipped one had another.
    params, others = weights(torch.float64), weights(torch.float64)
    optimizer, reference = ScheduleFreeSGD(params), ScheduleFreeSGD(others)
    train(optimizer, range(3))
    train(reference, range(3))
    optimizer.param_groups[0]["momentum"] = 0.5
    spoil(params, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        optimizer.step()
        optimizer.eval()
    reference.eval()
    assert all(map(torch.equal, params, others))


def test_large_finite_gradients_do_not_skip_a_step():
    # Their sum exceeds the largest float16, 65504.
    p = torch.zeros(1000, dtype=torch.float16, requires_grad=True)
    p.grad = torch.full_like(p, 1000.0)
    optimizer = Prodigy([p])
    train_step = snapshot(optimizer, [p])
    optimizer.step()
    assert not same(snapshot(optimizer, [p]), train_step)
    assert optimizer.param_groups[0]["skipped_steps"] == 0


@every_class
def test_a_gradient_whose_square_is_not_finite_leaves_no_infinite_state(cls):
    params = weights()
    optimizer = cls(params)
    train(optimizer, range(3))
    spoil(params, 3, 1e30)
    skip(optimizer)
    for state in optimizer.state.values():
        assert all(value.isfinite().all() for value in state.values() if isinstance(value, Tensor))
    assert optimizer.param_groups[0]["skipped_steps"] == 1


# Their steps are computed from the square of the total norm.
FROM_THE_NORM = (DAdaptSGD, DoG, DoWG, LDoG)


@every_class
def test_a_norm_whose_square_overflows_skips_a_step_only_where_the_step_needs_it(cls):
    p = torch.zeros(1000, requires_grad=True)
    optimizer = cls([p])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(2):
            p.grad = torch.full_like(p, 1e18)
            optimizer.step(loss=1e18)
        skipped = optimizer.state_dict()["param_groups"][0]["skipped_steps"]
    assert skipped == (2 if cls in FROM_THE_NORM else 0)
    assert p.isfinite().all()


def test_an_estimate_that_would_not_be_finite_keeps_its_value():
    # d's numerator, <gradient, p0 - p>, overflows; the gradient and its square do not.
    p = torch.zeros(3, requires_grad=True)
    optimizer = Prodigy([p])
    group = optimizer.param_groups[0]
    for _ in range(3):
        p.grad = torch.ones(3)
        optimizer.step()
    before = {name: group[name].clone() for name in ("d", "d_max", "d_numerator")}
    p0 = optimizer.state[p]["p0"].clone()
    optimizer.state[p]["p0"].fill_(1e30)
    p.grad = torch.full((3,), 1e15)
    optimizer.step()
    assert same({name: group[name] for name in before}, before)
    optimizer.state[p]["p0"].copy_(p0)
    p.grad = torch.ones(3)
    optimizer.step()
    assert not torch.equal(group["d_numerator"], before["d_numerator"])


@pytest.mark.parametrize("base", [AdamW, Prodigy])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_that_the_base_skips_is_not_averaged(base, dtype):
    params, others = weights(dtype), weights(dtype)
    optimizer = ScheduleFree(base(params), r=1.0)
    reference = ScheduleFree(base(others), r=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for step in range(8):
            if step in (0, 4, 5, 7):
                y = twins(params)
                spoil(params, step)
                optimizer.step()
                assert all(map(torch.equal, params, y))
            train(optimizer, [step])
            train(reference, [step])
        spoil(params, 8)
        optimizer.step()
        optimizer.eval()
    reference.eval()
    for group in reference.param_groups:
        group["skipped_steps"] = 5
    assert same(snapshot(optimizer, params), snapshot(reference, others))


@pytest.mark.filterwarnings("ignore:ScheduleFree has an average of its own")
def test_the_average_of_a_wrapped_optimizer_does_not_count_skipped_steps():
    model = torch.nn.Linear(3, 1)
    params = list(model.parameters())
    optimizer = ScheduleFree(AdamW(params))
    average = WeightAverage(model, Polyak())
    average.attach(optimizer)
    for step in range(6):
        backward(params, step)
        if step in (0, 3, 5):
            (spoilt,) = (p for p in params if p.dim() == 1)
            spoilt.grad = torch.full_like(spoilt, math.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            optimizer.step()
    assert average.weights()
    assert average.steps == 3
    assert optimizer.state_dict()["state"][0]["schedule_free_step"] == 3


ENDS = {
    "step": lambda optimizer: optimizer.step(),
    "state_dict": lambda optimizer: optimizer.state_dict(),
    "eval": lambda optimizer: optimizer.eval(),
    "deepcopy": lambda optimizer: copy.deepcopy(optimizer),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_warning_points_at_the_users_line(end, wrapped):
    params = weights()
    optimizer = AdamW(params)
    optimizer = ScheduleFree(optimizer) if wrapped else optimizer
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)  # wraps step()
    train(optimizer, [0])
    plan.step()
    spoil(params, 1)
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        optimizer.step()
        end(optimizer)
    assert [warning.filename for warning in reported] == [__file__]


def test_the_warning_from_a_with_statement_points_at_it():
    params = weights()
    optimizer = ScheduleFreeSGD(params)
    spoil(params, 0)
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        optimizer.step()
        with optimizer.evaluation_weights():
            pass
    assert [warning.filename for warning in reported] == [__file__]


class Reciprocal(optim.Optimizer):
    """Learns a number that is infinite where gradients cancel, and does nothing against it."""

    learns = ("reciprocal",)

    def __init__(self, params, lr=1.0, compile=False):
        super().__init__(params, {"lr": lr, "compile": compile})

    def check(self, group):
        pass

    def init_state(self, p, group):
        return {"step": 0}

    def advance(self, group, counts):
        counts["step"] += 1
        return {}

    @staticmethod
    def update(b):
        return (b.grad.sum(),)

    def estimate(self, *sums):
        write(self.param_groups, reciprocal=1 / sums[0])


def test_a_rules_number_that_is_not_finite_is_refused_for_it():
    p = torch.ones(2, requires_grad=True)
    optimizer = Reciprocal([p])
    for gradient in ([1.0, 3.0], [1.0, -1.0]):
        p.grad = torch.tensor(gradient)
        optimizer.step()
    assert float(optimizer.param_groups[0]["reciprocal"]) == 0.25


def test_the_sums_of_a_step_that_is_undone_are_zero():
    b = Bucket(group={}, **{name: TensorList([torch.ones(3)]) for name in ("param", "grad")})
    for ok, expected in ((True, 3.0), (False, 0.0)):
        assert run(lambda b: [b.grad.dot(b.grad)], b, torch.tensor(ok)) == [expected]
