import math

import pytest
import torch
from problems import Valley
from torch import Tensor

from selftune.optim import ScheduleFreePlus

pytestmark = pytest.mark.filterwarnings("ignore:.* finds its own step size")  # at any lr


def parameter(value: float = 0.0) -> Tensor:
    return torch.full((2,), value, dtype=torch.float64, requires_grad=True)


def step_size(optimizer: ScheduleFreePlus) -> float:
    return optimizer.param_groups[0]["step_size"].item()


def test_the_first_step_size_is_the_loss_over_the_gradients_norm():
    p = parameter()
    optimizer = ScheduleFreePlus([p], lr=0.5, max_step_size=math.inf)
    p.grad = torch.tensor([3.0, -1.0], dtype=torch.float64)
    optimizer.step(loss=2.0)
    assert step_size(optimizer) == pytest.approx(0.5 * 2 / (4 * math.sqrt(math.pi / 2)))


def test_a_step_needs_a_loss():
    p = parameter()
    p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match=r"ScheduleFreePlus.step\(\) needs the loss: step\(loss"):
        ScheduleFreePlus([p]).step()
    assert torch.equal(p, torch.zeros_like(p))


@pytest.mark.parametrize("tensor", [False, True])
def test_the_loss_may_be_given_or_returned_by_a_closure(tensor):
    ends = []
    for by_closure in (False, True):
        p = parameter(1.0)
        optimizer = ScheduleFreePlus([p])
        for _ in range(5):

            def closure(p=p, optimizer=optimizer):
                optimizer.zero_grad()
                loss = (p**4).sum()
                loss.backward()
                return loss if tensor else loss.item()

            optimizer.step(closure) if by_closure else optimizer.step(loss=closure())
        ends.append(p)
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], parameter(1.0))


def test_at_the_loss_zero_it_stands_still():
    p = parameter(1.0)
    optimizer = ScheduleFreePlus([p], weight_decay=30.0)
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step(loss=0.0)
    assert torch.equal(p, parameter(1.0))


@pytest.mark.filterwarnings("ignore:ScheduleFreePlus skipped a step")
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_step_with_a_loss_that_is_not_finite_is_skipped(loss):
    p = parameter(1.0)
    optimizer = ScheduleFreePlus([p])
    p.grad = torch.ones_like(p)
    optimizer.step(loss=loss)
    assert torch.equal(p, parameter(1.0))
    assert optimizer.param_groups[0]["skipped_steps"] == 1
    optimizer.step(loss=1.0)
    assert p.isfinite().all()
    assert not torch.equal(p, parameter(1.0))


def test_a_loss_that_is_not_one_number_is_refused():
    p = parameter(1.0)
    p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match=r"the loss must be one number, got the shape \(2,\)"):
        ScheduleFreePlus([p]).step(loss=torch.ones(2))
    ScheduleFreePlus([p]).step(loss=torch.ones(1))


def test_without_gradients_it_stands_still():
    p = parameter(1.0)
    optimizer = ScheduleFreePlus([p], max_step_size=math.inf)
    p.grad = torch.zeros_like(p)
    optimizer.step(loss=1.0)
    assert torch.equal(p, parameter(1.0))
    p.grad = torch.ones_like(p)
    optimizer.step(loss=1.0)
    gamma = step_size(optimizer)
    p.grad = torch.zeros_like(p)
    optimizer.step(loss=1.0)
    assert step_size(optimizer) == gamma
    assert 0 < gamma < 1


def on_a_plateau(**options: float) -> float:
    """The largest step on a loss of 5 whose gradients all but vanish."""
    problem = Valley.random([(10,)], 0)
    (p,) = problem.start
    optimizer = ScheduleFreePlus([p.requires_grad_()], **options)
    largest = 0.0
    for _ in range(50):
        p.grad = 1e-3 * problem.gradients([p])[0]
        optimizer.step(loss=5.0)
        largest = max(largest, step_size(optimizer))
    return largest


def test_steps_stay_bounded_on_a_plateau():
    assert on_a_plateau() <= 0.01
    assert on_a_plateau(max_step_size=math.inf) > 100


def test_the_tangent_at_y_gives_the_loss_at_z():
    # On a linear loss the tangent is exact: the step size follows the loss at z.
    slope = torch.tensor([1.0, 2.0], dtype=torch.float64)
    p = parameter(3.0)
    optimizer = ScheduleFreePlus([p], lr=0.05, max_step_size=math.inf, beta=0.8)
    for _ in range(10):
        at_z = (slope * optimizer.state[p]["z"]).sum() if p in optimizer.state else None
        p.grad = slope.clone()
        optimizer.step(loss=(slope * p).sum())
        if at_z is not None:
            expected = 0.05 * at_z.item() / (3 * math.sqrt(math.pi / 2))
            assert step_size(optimizer) == pytest.approx(expected)


def test_beta_moves_to_beta_max_evenly_in_the_logarithm():
    p = parameter(1.0)
    optimizer = ScheduleFreePlus([p], beta=0.9, beta_max=0.999, anneal_steps=4)
    betas = []
    for _ in range(6):
        p.grad = torch.ones_like(p)
        optimizer.step(loss=1.0)
        betas.append(optimizer.state[p]["beta"])
    logs = [math.log10(1 - beta) for beta in betas]
    assert logs == pytest.approx([-1, -1.5, -2, -2.5, -3, -3])
