"""Parameters of 16 bits train as those of 32 do, and gradients may be scaled."""

from __future__ import annotations

import pytest
import torch
from contract import every_class, every_optimizer, loss_for, take_step, train, twins, weights
from torch import Tensor, nn


def quadratic(cls: type, dtype: torch.dtype, steps: int = 800) -> float:
    """What remains of |p - target|^2, as a share, after some steps.

    bfloat16's numbers above 4 are 1/32 apart. What is less than half of that would be lost: each
    step of AdamW, and d, which begins small and grows by the way that p has gone.
    """
    start = torch.full((32,), 4.0, dtype=dtype)
    target = start + torch.arange(1, 33, dtype=dtype) / 16
    p = start.clone().requires_grad_()
    optimizer = cls([p])
    for _ in range(steps):
        p.grad = p.detach() - target
        take_step(optimizer, 0.5 * p.grad.double().square().sum())
    optimizer.eval()
    left, whole = (p - target).float(), (start - target).float()
    return (left.square().sum() / whole.square().sum()).item()


@every_class
def test_bfloat16_parameters_come_as_far_as_float32(cls):
    # Gradients are taken at rounded weights, so that some methods circle about the minimum, at
    # distances that depend on how a machine rounds. Steps that are lost leave 1.
    limit = 1.25 * quadratic(cls, torch.float32) + 1e-2
    assert limit < 0.7
    assert quadratic(cls, torch.bfloat16) < limit


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_thousand_evaluations_do_not_move_the_weights(cls, dtype):
    params = weights(dtype)
    optimizer = cls(params)
    train(optimizer, range(10))
    at_training = twins(params)
    optimizer.eval()
    at_evaluation = twins(params)
    for _ in range(1000):
        optimizer.train()
        optimizer.eval()
    # One unit in the last place: where the sum of two roundings lies between two numbers.
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(params, at_evaluation, rtol=unit, atol=unit / 100)
    optimizer.train()
    torch.testing.assert_close(params, at_training, rtol=unit, atol=unit / 100)


@every_optimizer
def test_a_float16_model_trains_under_a_scaler_that_starts_too_high(cls):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True)
    optimizer = cls(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return (model(x) - y).square().mean()

    before, skipped = loss().item(), 0
    for _ in range(500):
        optimizer.zero_grad()
        scaler.scale(now := loss()).backward()
        scale = scaler.get_scale()
        scaler.step(optimizer, **loss_for(optimizer, now.detach()))
        scaler.update()
        skipped += scaler.get_scale() < scale
    optimizer.eval()
    assert skipped > 0
    counted = optimizer.param_groups[0].get("skipped_steps", 0)  # torch's AdamW counts none
    assert counted == 0  # the scaler had skipped them before
    assert loss().item() < 0.8 * before
