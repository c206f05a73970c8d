import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from contract import without_code_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Valley

from selftune.optim import Prodigy
from selftune.optim.engine.packing import LARGE

pytestmark = pytest.mark.filterwarnings("ignore:.* finds its own step size")  # at any lr

STEPS = 60
seeds = st.integers(0, 1000)
scales = st.integers(-30, 30).map(lambda k: 2.0**k)  # exact: only exponents change
shares = st.integers(0, 8).map(lambda k: 0.5**k)


def train(optimizer: Prodigy, problem: Valley, steps: Iterable[int]) -> list[float]:
    """d after every step."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    history = []
    for _ in steps:
        for p, g in zip(params, problem.gradients(params), strict=True):
            p.grad = g
        optimizer.step()
        history.append(d_of(optimizer))
    return history


def d_of(optimizer: Prodigy) -> float:
    (d,) = {group["d"].item() for group in optimizer.param_groups}
    return d


def prodigy(problem: Valley, **options: Any) -> Prodigy:
    return Prodigy([p.requires_grad_() for p in problem.start], **options)


@given(seed=seeds, d_coef=st.floats(0.5, 2), growth_rate=st.sampled_from([1.05, math.inf]))
@settings(max_examples=10)
def test_d_never_decreases(seed, d_coef, growth_rate):
    problem = Valley.random([(3,), (2, 2)], seed, noise=0.0)
    optimizer = prodigy(problem, d_coef=d_coef, growth_rate=growth_rate)
    d = [1e-6, *train(optimizer, problem, range(STEPS))]
    assert d[-1] > d[0]
    d += train(optimizer, replace(problem, noise=5.0), range(STEPS))
    assert all(a <= b for a, b in pairwise(d))


@given(seed=seeds, bias_correction=st.booleans())
@settings(max_examples=10)
def test_d_stays_below_the_distance_to_a_minimum(seed, bias_correction):
    # On a convex loss without noise <g, p0 - p> <= <g, p0 - minimum>: summed, and divided by
    # |s|_1, at most the largest coordinate of p0 - minimum.
    problem = Valley.random([(3,), (2, 2)], seed, noise=0.0)
    distance = max(
        (a - b).abs().max().item() for a, b in zip(problem.start, problem.target, strict=True)
    )
    d = train(prodigy(problem, use_bias_correction=bias_correction), problem, range(300))
    assert 0.05 * distance < d[-1] <= distance


def test_d_stays_below_the_distance_where_gradients_are_missing():
    large, small = (torch.ones(n, dtype=torch.float64, requires_grad=True) for n in (100, 1))
    optimizer = Prodigy([large, small])
    for step in range(100):
        large.grad = None if step % 10 == 3 else large.detach().clone()
        small.grad = small.detach().clone()
        optimizer.step()
    assert d_of(optimizer) <= 1


@given(seed=seeds, scale=scales, weight_decay=st.sampled_from([0.0, 0.5]))
@settings(max_examples=10)
def test_the_scale_of_the_loss_does_not_matter(seed, scale, weight_decay):
    ends = []
    for factor in (1.0, scale):
        problem = Valley.random([(3,), (2, 2)], seed)
        optimizer = prodigy(problem, eps=1e-300, weight_decay=weight_decay)
        for _ in range(STEPS):
            for p, g in zip(problem.start, problem.gradients(problem.start), strict=True):
                p.grad = factor * g
            optimizer.step()
        ends.append(problem.start)
    assert all(map(torch.equal, *ends))


@given(seed=seeds, share=shares, d_coef=st.floats(0.5, 2), safeguard=st.booleans())
@settings(max_examples=10)
def test_a_groups_share_of_lr_is_a_change_of_units(seed, share, d_coef, safeguard):
    # p = share * q: where the loss, as a function of q, has gradient share * g.
    options = {"eps": 1e-300, "d_coef": d_coef, "safeguard_warmup": safeguard}
    problem = Valley.random([(3,), (4,)], seed)
    p1, p2 = problem.start
    q1, q2 = p1.clone(), p2 / share
    for tensor in (p1, p2, q1, q2):
        tensor.requires_grad_()
    in_p = Prodigy([{"params": [p1]}, {"params": [p2], "lr": share}], **options)
    in_q = Prodigy([q1, q2], **options)
    for _ in range(STEPS):
        p1.grad, p2.grad = problem.gradients([p1, p2])
        q1.grad, q2.grad = p1.grad.clone(), share * p2.grad
        in_p.step()
        in_q.step()
    # Sums of the two tensors are added in another order.
    torch.testing.assert_close([p1, p2], [q1, share * q2], rtol=1e-9, atol=1e-12)
    assert d_of(in_p) == pytest.approx(d_of(in_q), rel=1e-9)


def test_the_first_jump_is_free_and_growth_rate_bounds_the_others():
    problem = Valley.random([(5,)], 0, noise=0.0)
    d = train(prodigy(problem, growth_rate=1.1), problem, range(200))
    growth = [b / a for a, b in pairwise([1e-6, *d])]
    jump = next(k for k, rate in enumerate(growth) if rate > 1)
    assert growth[jump] > 1.1
    assert max(growth[jump + 1 :]) == pytest.approx(1.1)


def test_without_a_growth_rate_d_grows_faster():
    problem = Valley.random([(5,)], 0, noise=0.0)
    d = train(prodigy(problem), problem, range(200))
    growth = [b / a for a, b in pairwise(d)]
    assert max(growth) > 1.1


@pytest.mark.parametrize("zeros", [1, 7])
def test_leading_zero_gradients_change_nothing(zeros):
    ends = []
    for count in (0, zeros):
        problem = Valley.random([(5,)], 0)
        optimizer = prodigy(problem)
        for _ in range(count):
            problem.start[0].grad = torch.zeros(5, dtype=torch.float64)
            optimizer.step()
        ends.append((problem, train(optimizer, problem, range(STEPS))))
    (plain, d), (delayed, d_delayed) = ends
    assert d_delayed == d
    assert torch.equal(delayed.start[0], plain.start[0])


def warmed_up(safeguard: bool) -> float:
    """d on a problem without noise after a warm-up of 100 steps and 200 more."""
    problem = Valley.random([(10,)], 0, noise=0.0)
    optimizer = prodigy(problem, safeguard_warmup=safeguard)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = min(1.0, (step + 1) / 100)
        d = train(optimizer, problem, [step])
    return d[-1]


def test_the_safeguard_keeps_a_warm_up_from_raising_d():
    assert warmed_up(safeguard=True) < 0.9 * warmed_up(safeguard=False)


def test_weight_decay_is_multiplied_by_d_and_lr_alone():
    p = torch.ones(3, dtype=torch.float64, requires_grad=True)
    p.grad = torch.zeros_like(p)
    optimizer = Prodigy([p], lr=0.5, weight_decay=0.1, d0=1e-2)
    optimizer.step()
    assert torch.equal(p, torch.full_like(p, 1 - 1e-2 * 0.5 * 0.1))


def test_a_frozen_group_does_not_count_in_d():
    problem = Valley.random([(3,), (3,)], 0)
    params = [p.requires_grad_() for p in problem.start]
    frozen = Prodigy([{"params": params[:1]}, {"params": params[1:], "lr": 0.0}])
    d = train(frozen, problem, range(STEPS))
    problem = Valley.random([(3,), (3,)], 0)
    params = [p.requires_grad_() for p in problem.start]
    alone = Prodigy(params[:1])
    for step in range(STEPS):
        params[0].grad = problem.gradients(params)[0]
        alone.step()
        assert d[step] == d_of(alone)


def test_under_equal_gradients_every_coordinate_moves_by_d():
    p = torch.zeros(3, requires_grad=True, dtype=torch.float64)
    # Rates of growth of 1 stop d after its first jump.
    optimizer = Prodigy([p], betas=(0.5, 0.5), growth_rate=1.0, d0=1e-3, eps=1e-300)
    for _ in range(100):
        before = p.detach().clone()
        p.grad = torch.tensor([1.0, -20.0, 300.0], dtype=torch.float64)
        optimizer.step()
    expected = torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64) * d_of(optimizer)
    torch.testing.assert_close(p.detach() - before, expected)


def test_slices_spend_memory_on_a_sample_only():
    problem = Valley.random([(23,), (2, 2)], 0)
    optimizer = prodigy(problem, slice_p=11)
    d = train(optimizer, problem, range(STEPS))
    assert d[-1] > 1e-4
    sizes = [
        (optimizer.state[p]["p0"].numel(), optimizer.state[p]["s"].numel()) for p in problem.start
    ]
    assert sizes == [(3, 3), (1, 1)]


def test_the_sample_of_a_tensor_is_the_same_in_kernels(monkeypatch):
    without_code_generator(monkeypatch)
    ends = []
    for compile in (False, True):
        problem = Valley.random([(5,), (2, 7), (2, LARGE // 2)], 0)
        optimizer = prodigy(problem, slice_p=3, compile=compile)
        train(optimizer, problem, range(20))
        # Small samples have no kernels.
        assert [c.compiled for c in optimizer._cohorts] == ([False, True] if compile else [False])
        ends.append(problem.start)
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-12)
