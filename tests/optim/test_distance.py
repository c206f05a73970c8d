"""Estimates of a distance that are refused."""

import math

import pytest
import torch
from problems import Valley
from torch import Tensor

from selftune.optim import (
    DAdaptAdaGrad,
    DAdaptAdam,
    DAdaptSGD,
    DoG,
    DoWG,
    LDoG,
    Prodigy,
    ScheduleFreePlus,
    ScheduleFreeProdigy,
)
from selftune.optim.distance import LARGEST_JUMP, credible

every_class = pytest.mark.parametrize(
    "cls", [Prodigy, DAdaptSGD, DAdaptAdaGrad, DAdaptAdam], ids=lambda cls: cls.__name__
)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def run(cls: type, steps: int, spoil=lambda step, optimizer, p: None) -> list[float]:
    """d after every step on a noisy problem; `spoil` is called before each."""
    problem = Valley.random([(5,)], 0)
    p = problem.start[0].float().requires_grad_()
    optimizer = cls([p])
    history = []
    for step in range(steps):
        p.grad = problem.gradients([p.double()])[0].float()
        spoil(step, optimizer, p)
        optimizer.step()
        history.append(optimizer.param_groups[0]["d"].item())
    return history


@pytest.mark.parametrize("d_hat", [0.0, -1.0, 0.5, 1.0, 20.0, LARGEST_JUMP])
def test_an_estimate_within_reach_is_believed(d_hat):
    assert credible(number(2 * d_hat), number(2.0)) == 2 * d_hat


@pytest.mark.parametrize("d_hat", [1.01 * LARGEST_JUMP, 1e30, math.inf, -math.inf, math.nan])
def test_an_estimate_out_of_reach_leaves_d_alone(d_hat):
    assert credible(number(2 * d_hat), number(2.0)) == 2.0


@every_class
def test_d_does_not_jump_when_its_evidence_does(cls):
    def spoil(step, optimizer, p):
        if step == 20:
            optimizer.param_groups[0]["d_numerator"].fill_(1e20)

    d = run(cls, 40, spoil)
    assert d[20:] == [d[19]] * 20


def test_prodigys_d_survives_an_exchange_of_the_weights():
    def spoil(step, optimizer, p):
        if step == 3:  # someone loads a checkpoint of the model alone
            p.data.add_(100 * p.grad.sign().neg())

    d = run(Prodigy, 40, spoil)
    assert d[3] == d[2]  # what others have moved is no distance travelled
    assert max(d) < 100  # nor is it afterwards: the solution is so far away


@every_class
def test_an_overflown_sum_does_not_stop_d(cls):
    def overflow(step, optimizer, p):
        if step == 5:
            optimizer.estimate(torch.tensor(math.inf), torch.zeros(()))

    d = run(cls, 60, overflow)
    assert d[-1] > d[5]


ONE_ESTIMATE = {
    Prodigy: {"d0": 1e-3, "d_coef": 100.0, "growth_rate": 1.0, "beta3": 0.5, "betas": (0.9, 0.99)},
    ScheduleFreeProdigy: {
        "d0": 1e-3,
        "d_coef": 100.0,
        "growth_rate": 1.0,
        "r": 0.0,
        "betas": (0.9, 0.99),
    },
    DAdaptSGD: {"d0": 1e-3, "growth_rate": 1.0},
    DAdaptAdaGrad: {"d0": 1e-3, "growth_rate": 1.0},
    DAdaptAdam: {"d0": 1e-3, "growth_rate": 1.0, "betas": (0.9, 0.99)},
    ScheduleFreePlus: {"polyak_beta": 0.5, "max_step_size": 0.1, "r": 2.0, "c_warmup": 5},
    DoG: {"reps_rel": 1e-3},
    DoWG: {"reps_rel": 1e-3},
}


@pytest.mark.parametrize(
    ("cls", "option", "value"),
    [(cls, *item) for cls, options in ONE_ESTIMATE.items() for item in options.items()],
)
def test_an_option_of_the_one_estimate_is_refused_where_a_group_has_its_own(cls, option, value):
    optimizer = cls([torch.ones(2, requires_grad=True)])
    with pytest.raises(ValueError, match=f"{option}.* must be the same in all groups"):
        optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], option: value})
    assert len(optimizer.param_groups) == 1
    both = [{"params": [torch.ones(2, requires_grad=True)], option: value} for _ in range(2)]
    assert len(cls(both).param_groups) == 2


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Prodigy, {"betas": (0.5, 0.999), "eps": 1e-6, "lr": 0.5}),
        (Prodigy, {"betas": (0.9, 0.25), "beta3": math.sqrt(0.999)}),
        (LDoG, {"reps_rel": 1e-3}),
    ],
)
def test_options_that_every_group_is_asked_for_may_differ(cls, options):
    optimizer = cls([torch.ones(2, requires_grad=True)])
    optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], **options})
    assert len(optimizer.param_groups) == 2
