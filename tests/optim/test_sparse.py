"""Sparse gradients: as the same dense ones, at the cost of what they touch."""

import pytest
import torch
from torch import Tensor, nn

from selftune.optim import DAdaptAdaGrad

ROWS = [[0, 3], [3, 3, 1], [5], [], [0, 1, 2, 3]]


def embeddings(dtype: torch.dtype = torch.float64) -> tuple[nn.Embedding, nn.Embedding]:
    """One with sparse and one with dense gradients, otherwise equal."""
    sparse = nn.Embedding(6, 2, sparse=True, dtype=dtype)
    with torch.no_grad():
        sparse.weight.copy_(torch.arange(12).view(6, 2) / 7)
    dense = nn.Embedding(6, 2, dtype=dtype)
    dense.load_state_dict(sparse.state_dict())
    return sparse, dense


def step(model: nn.Module, optimizer: torch.optim.Optimizer, rows: list[int]) -> None:
    optimizer.zero_grad()
    (model(torch.tensor(rows, dtype=torch.long)) - 3).abs().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("compile", [False, True])
def test_sparse_gradients_train_as_dense_ones(compile):
    models = embeddings()
    other = [torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in models]
    optimizers = [
        DAdaptAdaGrad([*model.parameters(), p], d0=1e-3, compile=compile and model.sparse)
        for model, p in zip(models, other, strict=True)
    ]
    for rows in ROWS * 8:
        for model, optimizer in zip(models, optimizers, strict=True):
            step(model, optimizer, rows)
    torch.testing.assert_close(models[0].weight, models[1].weight, rtol=1e-10, atol=1e-12)
    ds = [optimizer.param_groups[0]["d"].item() for optimizer in optimizers]
    assert ds[0] == pytest.approx(ds[1], rel=1e-10)
    assert ds[0] > 2e-3


@pytest.mark.parametrize("option", ["weight_decay", "momentum"])
def test_options_count_for_sparse_gradients_too(option):
    # dadaptation's sparse way does without them.
    ends = []
    for value in (0.0, 0.5):
        models = embeddings()
        for model in models:
            optimizer = DAdaptAdaGrad(model.parameters(), d0=1e-2, **{option: value})
            for _ in range(5):
                step(model, optimizer, [0, 1, 2, 3, 4, 5])
        torch.testing.assert_close(models[0].weight, models[1].weight, rtol=1e-10, atol=1e-12)
        ends.append(models[0].weight)
    assert not torch.allclose(*ends)


def test_rows_without_a_gradient_are_left_alone():
    model, _ = embeddings()
    before = model.weight.detach().clone()
    optimizer = DAdaptAdaGrad(model.parameters(), weight_decay=0.1)
    step(model, optimizer, [1, 4])
    touched = (model.weight != before).any(1)
    assert touched.tolist() == [False, True, False, False, True, False]
    assert (optimizer.state[model.weight]["alpha"] != 0).any(1).tolist() == touched.tolist()


def test_a_gradient_may_be_dense_in_one_step_and_sparse_in_the_next():
    sparse, dense = embeddings()
    optimizers = [DAdaptAdaGrad(model.parameters(), d0=1e-3) for model in (sparse, dense)]
    for k, rows in enumerate(ROWS):
        sparse.sparse = k % 2 == 0
        for model, optimizer in zip((sparse, dense), optimizers, strict=True):
            step(model, optimizer, rows)
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=1e-10, atol=1e-12)


def test_bfloat16_rows_add_up_small_steps():
    sparse, dense = embeddings(torch.bfloat16)
    optimizers = [DAdaptAdaGrad(model.parameters(), d0=1e-3) for model in (sparse, dense)]
    for rows in ROWS * 4:
        for model, optimizer in zip((sparse, dense), optimizers, strict=True):
            step(model, optimizer, rows)
    torch.testing.assert_close(sparse.weight, dense.weight)


def with_sparse_dims(dims: int) -> Tensor:
    p = torch.zeros(2, 3, 2, dtype=torch.float64, requires_grad=True)
    dense = torch.zeros_like(p)
    dense[0, 2, 1], dense[1, 0] = 5.0, 7.0
    p.grad = dense.detach().to_sparse(dims)
    return p


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gradients_may_be_sparse_in_several_dimensions(dims):
    p = with_sparse_dims(dims)
    DAdaptAdaGrad([p], d0=1e-2).step()
    expected = torch.zeros_like(p)
    expected[0, 2, 1] = expected[1, 0, 0] = expected[1, 0, 1] = -1e-2
    torch.testing.assert_close(p.detach(), expected.detach(), rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:DAdaptAdaGrad skipped")
def test_a_sparse_gradient_that_is_not_finite_skips_the_step():
    p = with_sparse_dims(1)
    p.grad = p.grad * float("nan")
    optimizer = DAdaptAdaGrad([p])
    optimizer.step()
    assert torch.equal(p, torch.zeros_like(p))
    assert optimizer.param_groups[0]["skipped_steps"] == 1
