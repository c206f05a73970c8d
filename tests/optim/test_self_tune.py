"""SelfTune: its transcription, its directions, and what its steps do not depend on."""

from __future__ import annotations

from itertools import chain

import pytest
import references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Valley
from torch import Tensor, nn

from selftune import SelfTune
from selftune.optim.engine.orthogonal import orthogonalized
from selftune.optim.self_tune import is_matrix

STEPS = 60
SHAPES = [[(3,), (4, 3), (2, 20)], [(5, 2, 2), (), (6, 6)]]  # of two groups


def set_gradients(params: list[Tensor], grads: list[Tensor | None]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = g


@pytest.mark.parametrize("compile", [False, True])
@given(
    seed=st.integers(0, 1000),
    lrs=st.tuples(st.floats(1e-4, 0.1), st.floats(1e-4, 0.1)),
    decays=st.tuples(st.just(0.0) | st.floats(1e-3, 1), st.floats(0, 1)),
    absent=st.floats(0, 0.5),
)
@settings(max_examples=8, deadline=None)
def test_it_equals_its_transcription(compile, seed, lrs, decays, absent):
    problem = Valley.random([*chain(*SHAPES)], seed)
    options = [{"lr": lr, "weight_decay": wd} for lr, wd in zip(lrs, decays, strict=True)]
    reference = references.SelfTune(problem.start, [o for o in options for _ in range(3)])
    params = [p.clone().requires_grad_() for p in problem.start]
    groups = [{"params": params[3 * i : 3 * i + 3], **o} for i, o in enumerate(options)]
    optimizer = SelfTune(groups, compile=compile)
    for _ in range(STEPS):
        present = torch.rand(len(params), generator=problem.generator) >= absent
        grads = [
            g if there else None
            for g, there in zip(problem.gradients(reference.params), present, strict=True)
        ]
        set_gradients(params, grads)
        optimizer.step()
        reference.step(grads)
    for actual, expected in zip(params, reference.params, strict=True):
        torch.testing.assert_close(actual.detach(), expected, rtol=1e-7, atol=1e-9)
    optimizer.eval()
    for actual, expected in zip(params, reference.evaluation_weights(), strict=True):
        torch.testing.assert_close(actual.detach(), expected, rtol=1e-7, atol=1e-9)


@given(seed=st.integers(0, 1000), rows=st.integers(2, 40), columns=st.integers(2, 40))
@settings(deadline=None)
def test_an_orthogonalized_matrix_has_singular_values_near_1(seed, rows, columns):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    values = torch.linalg.svdvals(matrix)
    (found,) = orthogonalized([matrix])
    large = values > 0.02 * values[0]  # five iterations leave the smallest ones small
    assert ((torch.linalg.svdvals(found)[large] - 1).abs() < 0.4).all()


def test_matrices_of_one_shape_are_orthogonalized_as_they_are_alone():
    torch.manual_seed(0)
    tensors = [torch.randn(4, 6), torch.randn(6, 4), torch.randn(4, 6), torch.randn(4, 3, 2)]
    for tensor, matrix in zip(tensors, orthogonalized(tensors), strict=True):
        torch.testing.assert_close(matrix, orthogonalized([tensor])[0])


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_a_matrix_of_tiny_or_huge_numbers_is_orthogonalized_as_any_other(scale):
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    (expected,), (found,) = orthogonalized([matrix]), orthogonalized([matrix * scale])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_matrix_of_zeros_stays_one():
    (found,) = orthogonalized([torch.zeros(3, 4)])
    assert not found.any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 4), True), ((8, 64), True), ((8, 65), False), ((5, 1), False), ((7,), False),
     ((), False), ((16, 3, 3, 3), True), ((64, 1, 7, 7), True), ((1000, 16), False)],
)  # fmt: skip
def test_what_counts_as_a_matrix(shape, expected):
    assert is_matrix(torch.empty(shape)) == expected


def trained(scale: float = 1.0, steps: int = 30, **options: object) -> list[Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4)).double()
    optimizer = SelfTune(model.parameters(), **options)
    inputs = torch.randn(64, 6, dtype=torch.float64)
    for _ in range(steps):
        optimizer.zero_grad()
        (scale * (model(inputs) - inputs[:, :4]).square().mean()).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_loss_changes_nothing(scale):
    for p, q in zip(trained(), trained(scale), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_parameters_whose_gradients_are_zero_stay_where_they_are_without_weight_decay():
    params = [torch.ones(4, 4), torch.ones(3)]
    optimizer = SelfTune([p.requires_grad_() for p in params], weight_decay=0)
    for _ in range(3):
        set_gradients(params, [torch.zeros(4, 4), torch.zeros(3)])
        optimizer.step()
    assert all(torch.equal(p, torch.ones_like(p)) for p in params)


@pytest.mark.parametrize("shape", [(4, 4), (16,)])
def test_a_tensor_stops_when_its_gradients_do(shape):
    p = torch.zeros(shape, requires_grad=True)
    optimizer = SelfTune([p], weight_decay=0)
    generator = torch.Generator().manual_seed(0)
    moved = []
    for size in [1.0] * 50 + [1e-6] * 200:
        before = p.detach().clone()
        p.grad = size * torch.randn(shape, generator=generator)
        optimizer.step()
        moved.append((p.detach() - before).norm().item())
    assert moved[-1] < 1e-3 * moved[49]


@pytest.mark.parametrize("compile", [False, True])
def test_rows_whose_gradients_have_ended_leave_no_denormal_numbers(compile):
    params = [torch.ones(20, 2, requires_grad=True), torch.ones(4, 4, requires_grad=True)]
    optimizer = SelfTune(params, compile=compile)
    for step in range(1200):
        for p in params:
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
            p.grad[2:] *= step < 3
        optimizer.step()
    for state in optimizer.state.values():
        for name in ("exp_avg", "exp_avg_sq", "x"):
            sizes = state.get(name, torch.ones(())).abs()
            assert not ((sizes > 0) & (sizes < torch.finfo(torch.float32).tiny)).any()


def test_the_average_is_that_of_the_last_ninth_or_so():
    p = torch.zeros(3, requires_grad=True)
    optimizer = SelfTune([p])
    iterates, weights = [], []
    for step in range(1, 201):
        p.grad = torch.randn(3, generator=torch.Generator().manual_seed(step))
        optimizer.step()
        iterates.append(p.detach().clone())
        c = 9 / (8 + step)
        weights = [w * (1 - c) for w in weights] + [c]
    expected = sum(w * iterate for w, iterate in zip(weights, iterates, strict=True))
    with optimizer.evaluation_weights():
        torch.testing.assert_close(p.detach(), expected)
    assert torch.equal(p.detach(), iterates[-1])
    assert sum(w * (200 - i) for i, w in enumerate(weights)) == pytest.approx(200 / 10, rel=0.1)
