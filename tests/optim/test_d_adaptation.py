import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Valley

from selftune.optim import DAdaptAdam, DAdaptSGD

pytestmark = pytest.mark.filterwarnings("ignore:.* finds its own step size")  # at any lr

DAdapt = DAdaptSGD | DAdaptAdam
CLASSES = [DAdaptSGD, DAdaptAdam]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
STEPS = 60
seeds = st.integers(0, 1000)
scales = st.integers(-30, 30).map(lambda k: 2.0**k)  # exact: only exponents change
shares = st.integers(0, 4).map(lambda k: 0.25**k)  # with exact roots


def without_eps(cls: type) -> dict[str, float]:
    return {"eps": 1e-300} if cls is DAdaptAdam else {}


def train(optimizer: DAdapt, problem: Valley, steps: Iterable[int]) -> list[float]:
    """d after every step."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    history = []
    for _ in steps:
        for p, g in zip(params, problem.gradients(params), strict=True):
            p.grad = g
        optimizer.step()
        history.append(d_of(optimizer))
    return history


def d_of(optimizer: DAdapt) -> float:
    (d,) = {group["d"].item() for group in optimizer.param_groups}
    return d


def adapted(cls: type, problem: Valley, **options: Any) -> DAdapt:
    return cls([p.requires_grad_() for p in problem.start], **options)


@every_class
@given(seed=seeds, lr=st.floats(0.5, 2))
@settings(max_examples=8)
def test_d_never_decreases(cls, seed, lr):
    problem = Valley.random([(3,), (2, 2)], seed, noise=0.0)
    optimizer = adapted(cls, problem, lr=lr)
    d = [1e-6, *train(optimizer, problem, range(STEPS))]
    assert d[-1] > d[0]
    d += train(optimizer, replace(problem, noise=5.0), range(STEPS))
    assert all(a <= b for a, b in pairwise(d))


@given(seed=seeds)
@settings(max_examples=10)
def test_sgds_d_stays_below_twice_the_distance_to_a_minimum(seed):
    # On a convex loss without noise sum delta <g, s> <= <s, p0 - minimum> <= |s| distance,
    # and the estimate is twice that sum over |s|.
    problem = Valley.random([(3,), (2, 2)], seed, noise=0.0)
    squares = [((a - b) ** 2).sum() for a, b in zip(problem.start, problem.target, strict=True)]
    distance = math.sqrt(sum(squares))
    d = train(adapted(DAdaptSGD, problem), problem, range(300))
    assert 0.05 * distance < d[-1] <= 2 * distance


def test_sgds_d_stays_below_twice_the_distance_where_gradients_are_missing():
    large, small = (torch.ones(n, dtype=torch.float64, requires_grad=True) for n in (100, 1))
    optimizer = DAdaptSGD([large, small])
    for step in range(100):
        large.grad = None if step % 10 == 3 else large.detach().clone()
        small.grad = small.detach().clone()
        optimizer.step()
    assert d_of(optimizer) <= 2 * math.sqrt(101)


@every_class
@given(seed=seeds, scale=scales)
@settings(max_examples=8)
def test_the_scale_of_the_loss_does_not_matter(cls, seed, scale):
    ends = []
    for factor in (1.0, scale):
        problem = Valley.random([(3,), (2, 2)], seed)
        optimizer = adapted(cls, problem, **without_eps(cls))
        for _ in range(STEPS):
            for p, g in zip(problem.start, problem.gradients(problem.start), strict=True):
                p.grad = factor * g
            optimizer.step()
        ends.append(problem.start)
    assert all(map(torch.equal, *ends))


@every_class
@given(seed=seeds, share=shares)
@settings(max_examples=8)
def test_a_groups_share_of_lr_is_a_change_of_units(cls, seed, share):
    # p = unit * q: where the loss, as a function of q, has gradient unit * g.
    unit = math.sqrt(share) if cls is DAdaptSGD else share
    problem = Valley.random([(3,), (4,)], seed)
    p1, p2 = problem.start
    q1, q2 = p1.clone(), p2 / unit
    for tensor in (p1, p2, q1, q2):
        tensor.requires_grad_()
    in_p = cls([{"params": [p1]}, {"params": [p2], "lr": share}], **without_eps(cls))
    in_q = cls([q1, q2], **without_eps(cls))
    for _ in range(STEPS):
        p1.grad, p2.grad = problem.gradients([p1, p2])
        q1.grad, q2.grad = p1.grad.clone(), unit * p2.grad
        in_p.step()
        in_q.step()
    # Sums of the two tensors are added in another order.
    torch.testing.assert_close([p1, p2], [q1, unit * q2], rtol=1e-9, atol=1e-12)
    assert d_of(in_p) == pytest.approx(d_of(in_q), rel=1e-9)


@every_class
def test_growth_rate_bounds_every_growth(cls):
    problem = Valley.random([(5,)], 0, noise=0.0)
    d = [1e-6, *train(adapted(cls, problem, growth_rate=1.1), problem, range(200))]
    assert max(b / a for a, b in pairwise(d)) == pytest.approx(1.1)


@every_class
def test_without_a_growth_rate_d_grows_faster(cls):
    problem = Valley.random([(5,)], 0, noise=0.0)
    d = [1e-6, *train(adapted(cls, problem), problem, range(200))]
    assert max(b / a for a, b in pairwise(d)) > 1.1


@every_class
@pytest.mark.parametrize("zeros", [1, 7])
def test_leading_zero_gradients_change_nothing(cls, zeros):
    ends = []
    for count in (0, zeros):
        problem = Valley.random([(5,)], 0)
        optimizer = adapted(cls, problem)
        for _ in range(count):
            problem.start[0].grad = torch.zeros(5, dtype=torch.float64)
            optimizer.step()
        ends.append((problem, train(optimizer, problem, range(STEPS))))
    (plain, d), (delayed, d_delayed) = ends
    assert d_delayed == d
    assert torch.equal(delayed.start[0], plain.start[0])


def test_sgd_without_momentum_goes_to_z():
    problem = Valley.random([(5,)], 0)
    optimizer = adapted(DAdaptSGD, problem)
    train(optimizer, problem, range(10))
    (p,) = problem.start
    state = optimizer.state[p]
    torch.testing.assert_close(p.detach(), state["p0"] - state["s"], rtol=1e-14, atol=1e-15)


def test_sgd_with_momentum_keeps_that_part_of_the_old_weights():
    problem = Valley.random([(5,)], 0)
    optimizer = adapted(DAdaptSGD, problem, momentum=0.75)
    train(optimizer, problem, range(10))
    (p,) = problem.start
    before = p.detach().clone()
    train(optimizer, problem, range(1))
    z = optimizer.state[p]["p0"] - optimizer.state[p]["s"]
    torch.testing.assert_close(p.detach(), 0.75 * before + 0.25 * z, rtol=1e-13, atol=1e-14)


def test_sgds_first_step_has_length_d0_times_lr():
    problem = Valley.random([(5,), (2, 2)], 0)
    before = [p.clone() for p in problem.start]
    train(adapted(DAdaptSGD, problem, d0=1e-3, lr=0.5), problem, range(1))
    moved = [(a - b).flatten() for a, b in zip(problem.start, before, strict=True)]
    assert torch.cat(moved).norm().item() == pytest.approx(1e-3 * 0.5)


def test_a_group_whose_first_gradient_is_late_shares_the_first_gradients_norm():
    early, late = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = DAdaptSGD([{"params": [early]}, {"params": [late]}])
    early.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    optimizer.step()
    late.grad = torch.tensor([30.0, 40.0], dtype=torch.float64)
    optimizer.step()
    assert [group["g0_norm"].item() for group in optimizer.param_groups] == [5.0, 5.0]


def test_a_change_of_a_groups_share_of_lr_does_not_move_it():
    problem = Valley.random([(3,), (3,)], 0)
    first, second = (p.requires_grad_() for p in problem.start)
    optimizer = DAdaptSGD([{"params": [first]}, {"params": [second]}])
    train(optimizer, problem, range(20))
    before = second.detach().clone()
    optimizer.param_groups[1]["lr"] = 0.1
    second.grad = torch.zeros_like(second)
    optimizer.step()
    torch.testing.assert_close(second.detach(), before, rtol=1e-14, atol=1e-15)


def test_adams_weight_decay_is_multiplied_by_d_and_lr_alone():
    p = torch.ones(3, dtype=torch.float64, requires_grad=True)
    p.grad = torch.zeros_like(p)
    DAdaptAdam([p], lr=0.5, weight_decay=0.1, d0=1e-2).step()
    assert torch.equal(p, torch.full_like(p, 1 - 1e-2 * 0.5 * 0.1))


def test_sgds_weight_decay_and_momentum_are_each_groups_own():
    # dadaptation reads both from the first group.
    starts = [torch.ones(2, dtype=torch.float64).requires_grad_() for _ in range(2)]
    groups: list[dict[str, Any]] = [
        {"params": starts[:1]},
        {"params": starts[1:], "weight_decay": 0.5, "momentum": 0.75},
    ]
    optimizer = DAdaptSGD(groups, d0=0.1)
    for p in starts:
        p.grad = torch.ones_like(p)
    optimizer.step()
    length = 2.0  # of all gradients
    z = [1 - 0.1 * gradient / length for gradient in (1.0, 1.5)]
    for p, expected in zip(starts, (z[0], 0.75 + 0.25 * z[1]), strict=True):
        torch.testing.assert_close(p.detach(), torch.full_like(p, expected))
