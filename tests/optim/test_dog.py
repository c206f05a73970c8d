import math
from itertools import pairwise

import pytest
import torch
from contract import without_code_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Valley
from torch import Tensor

from selftune.optim import DoG, DoWG, LDoG
from selftune.optim.engine import cohorts

every_class = pytest.mark.parametrize("cls", [DoG, DoWG, LDoG], ids=lambda cls: cls.__name__)
of_one_vector = pytest.mark.parametrize("cls", [DoG, DoWG], ids=lambda cls: cls.__name__)
STEPS = 60
seeds = st.integers(0, 1000)


def train(optimizer: torch.optim.Optimizer, problem: Valley, scale: float = 1.0) -> None:
    for p, g in zip(problem.start, problem.gradients(problem.start), strict=True):
        p.grad = scale * g
    optimizer.step()


def distance(params: list[Tensor], start: list[Tensor]) -> float:
    return math.sqrt(sum(((p - q) ** 2).sum().item() for p, q in zip(params, start, strict=True)))


@of_one_vector
@given(seed=seeds)
@settings(max_examples=5)
def test_r_bar_is_the_largest_distance_so_far(cls, seed):
    problem = Valley.random([(3,), (2, 2)], seed, noise=5.0)
    optimizer = cls([p.requires_grad_() for p in problem.start], reps_rel=1e-3)
    start = [p.detach().clone() for p in problem.start]
    largest = 1e-3 * (1 + distance(start, [torch.zeros_like(p) for p in start]))
    for _ in range(STEPS):
        train(optimizer, problem)
        largest = max(largest, distance(problem.start, start))
        assert optimizer.param_groups[0]["r_bar"].item() == pytest.approx(largest, rel=1e-12)


@every_class
def test_the_first_step_has_the_length_of_reps_rel_times_one_plus_the_norm(cls):
    p = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor([0.0, 1e-3], dtype=torch.float64)
    cls([p], lr=0.5, reps_rel=1e-2).step()
    assert p.tolist() == pytest.approx([3.0, 4.0 - 0.5 * 1e-2 * (1 + 5)])


@every_class
@pytest.mark.parametrize("size", [1e-18, 1e15, 1e18])
def test_the_sum_of_squared_gradients_does_not_overflow_or_vanish_in_float32(cls, size):
    ends = []
    for scale in (1.0, size):
        p = torch.full((2,), 1e4, requires_grad=True)
        optimizer = cls([p])
        for _ in range(200):
            p.grad = scale * torch.ones(2)
            optimizer.step()
        ends.append(p.detach() - 1e4)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-2, atol=0.0)


@every_class
@given(seed=seeds, exponent=st.integers(-30, 30))
@settings(max_examples=5)
def test_the_scale_of_the_loss_does_not_matter(cls, seed, exponent):
    ends = []
    for scale in (1.0, 2.0**exponent):  # exact: only exponents change
        problem = Valley.random([(3,), (2, 2)], seed)
        optimizer = cls([p.requires_grad_() for p in problem.start])
        for _ in range(STEPS):
            train(optimizer, problem, scale)
        ends.append(problem.start)
    assert all(map(torch.equal, *ends))


@every_class
def test_leading_zero_gradients_change_nothing(cls):
    ends = []
    for zeros in (0, 3):
        problem = Valley.random([(5,)], 0)
        optimizer = cls([p.requires_grad_() for p in problem.start])
        for _ in range(zeros):
            problem.start[0].grad = torch.zeros(5, dtype=torch.float64)
            optimizer.step()
        for _ in range(STEPS):
            train(optimizer, problem)
        ends.append(problem.start[0])
    assert torch.equal(*ends)


def test_on_one_tensor_ldog_is_dog():
    ends = []
    for cls in (DoG, LDoG):
        problem = Valley.random([(2, 3)], 0)
        optimizer = cls([p.requires_grad_() for p in problem.start], reps_rel=1e-2)
        for _ in range(STEPS):
            train(optimizer, problem)
        ends.append(problem.start[0])
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-14)


def test_ldog_trains_a_tensor_as_if_it_were_alone():
    together = Valley.random([(3,), (2, 2)], 0, noise=0.0)
    alone = Valley.random([(3,), (2, 2)], 0, noise=0.0)
    params = [p.requires_grad_() for p in together.start]
    optimizer = LDoG(params, reps_rel=1e-2)
    single = LDoG([alone.start[1].requires_grad_()], reps_rel=1e-2)
    for _ in range(STEPS):
        train(optimizer, together)
        alone.start[1].grad = alone.gradients(alone.start)[1]
        single.step()
    torch.testing.assert_close(params[1], alone.start[1], rtol=1e-12, atol=1e-14)


def test_ldog_knows_the_bounds_of_tensors_where_large_ones_have_kernels(monkeypatch):
    without_code_generator(monkeypatch)
    sizes, ends = [3, 7, 2**16 + 5], []
    for compile in (False, True):
        problem = Valley.random([(n,) for n in sizes], 0)
        params = [p.requires_grad_() for p in problem.start]
        optimizer = LDoG(params, reps_rel=1e-2, compile=compile)
        for _ in range(3):
            train(optimizer, problem)
        ends.append(problem.start)
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-14)


def test_ldog_knows_a_tensor_larger_than_a_chunk(monkeypatch):
    ends = []
    for limit in (2**17, 4):
        monkeypatch.setattr(cohorts, "CHUNK_ON_CPU", limit)
        problem = Valley.random([(3,), (9,)], 0)
        optimizer = LDoG([p.requires_grad_() for p in problem.start], reps_rel=1e-2)
        for _ in range(3):
            train(optimizer, problem)
        ends.append(problem.start)
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-14)


@of_one_vector
def test_r_bar_outlives_a_rest(cls):
    moving, resting = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = cls([moving, resting], reps_rel=1e-2)
    history = []
    for step in range(20):
        moving.grad = torch.ones_like(moving)
        resting.grad = torch.ones_like(resting) if step < 10 else None
        optimizer.step()
        history.append(distance([moving, resting], [torch.zeros(2, dtype=torch.float64)] * 2))
        expected = max(history[-1], 1e-2)
        assert optimizer.param_groups[0]["r_bar"].item() == pytest.approx(expected)
    assert all(a < b for a, b in pairwise(history))
