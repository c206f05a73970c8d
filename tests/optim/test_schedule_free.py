import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Valley
from torch import Tensor

from selftune.optim import ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD

# Some runs have a schedule that decays, which averaging methods remark on.
pytestmark = pytest.mark.filterwarnings("ignore:.* averages in the place of a decaying")


def classes(*members: type):
    return pytest.mark.parametrize("cls", members, ids=lambda cls: cls.__name__)


every_class = classes(ScheduleFreeSGD, ScheduleFreeAdamW, ScheduleFreeRAdam)
# RAdam weighs its steps by a warm-up of its own.
constant_weights = classes(ScheduleFreeSGD, ScheduleFreeAdamW)
adams = classes(ScheduleFreeAdamW, ScheduleFreeRAdam)
STEPS = 40


def interpolation(cls: type, beta: float) -> dict[str, object]:
    return {"momentum": beta} if cls is ScheduleFreeSGD else {"betas": (beta, 0.99)}


def rectified(beta2: float, step: int) -> float:
    """RAdam's factor of lr."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step / (beta2**-step - 1)
    if length <= 4:
        return 0.0
    rise = (length - 4) * (length - 2) / length
    return math.sqrt(rise / ((longest - 4) * (longest - 2) / longest))


class Run:
    """A run on a noisy problem, its sequences recorded after every step."""

    def __init__(self, cls: type, seed: int = 0, schedule=lambda step: 1.0, **options) -> None:
        problem = Valley.random([(5,)], seed)
        (p,) = problem.start
        p.requires_grad_()
        self.optimizer = optimizer = cls([p], **{"lr": 0.1, **options})
        peak = optimizer.param_groups[0]["lr"]
        self.lrs: list[float] = []
        self.x: list[Tensor] = []
        self.y: list[Tensor] = []
        self.z: list[Tensor] = []
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = peak * schedule(step)
            (p.grad,) = problem.gradients([p])
            optimizer.step()
            self.lrs.append(peak * schedule(step))
            self.y.append(p.detach().clone())
            self.z.append(optimizer.state[p]["z"].clone())
            with optimizer.evaluation_weights():
                self.x.append(p.detach().clone())
            p.data.copy_(self.y[-1])  # without the rounding of the way back

    def average(self, weights: list[float]) -> Tensor:
        """z's average, in these proportions."""
        w = torch.tensor(weights, dtype=torch.float64)
        return (torch.stack(self.z) * w[:, None]).sum(0) / w.sum()


def assert_equal_up_to_rounding(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@constant_weights
def test_with_beta_1_gradients_are_taken_at_the_average(cls):
    run = Run(cls, **interpolation(cls, 1.0))
    assert all(map(torch.equal, run.y, run.x))
    assert_equal_up_to_rounding(run.y[-1], run.average([1.0] * STEPS))


@constant_weights
@given(beta=st.floats(0.1, 1), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_with_a_constant_lr_x_is_the_uniform_average_of_z(cls, beta, seed):
    run = Run(cls, seed, **interpolation(cls, beta))
    assert_equal_up_to_rounding(run.x[-1], run.average([1.0] * STEPS))


@every_class
def test_y_lies_between_z_and_x(cls):
    run = Run(cls, **interpolation(cls, 0.8))
    for x, y, z in zip(run.x, run.y, run.z, strict=True):
        assert_equal_up_to_rounding(y, 0.2 * z + 0.8 * x)
    assert not torch.allclose(run.x[-1], run.z[-1])


@constant_weights
def test_after_the_first_step_the_start_is_forgotten(cls):
    run = Run(cls)
    assert_equal_up_to_rounding(run.y[0], run.z[0])
    assert_equal_up_to_rounding(run.x[0], run.z[0])


@constant_weights
def test_r_weighs_a_step_by_a_power_of_its_number(cls):
    run = Run(cls, r=1.5)
    assert_equal_up_to_rounding(run.x[-1], run.average([k**1.5 for k in range(1, STEPS + 1)]))


@constant_weights
def test_a_warm_up_is_linear_and_weighs_steps_by_the_square_of_lr(cls):
    run = Run(cls, warmup_steps=10)
    by_hand = Run(cls, schedule=lambda step: min(1.0, (step + 1) / 10))
    assert torch.equal(run.y[-1], by_hand.y[-1])
    assert_equal_up_to_rounding(run.x[-1], run.average([lr**2 for lr in by_hand.lrs]))


@constant_weights
def test_a_decay_of_lr_leaves_the_averaging_weights_alone(cls):
    run = Run(cls, schedule=lambda step: math.exp(-step / 10))
    assert_equal_up_to_rounding(run.x[-1], run.average([1.0] * STEPS))


def test_x_stays_the_average_while_beta_changes():
    # torch's OneCycleLR does this unless told not to.
    problem = Valley.random([(5,)], 0)
    (p,) = problem.start
    optimizer = ScheduleFreeSGD([p.requires_grad_()], lr=0.1)
    z = []
    for step in range(STEPS):
        optimizer.param_groups[0]["momentum"] = 0.95 - 0.1 * step / STEPS
        (p.grad,) = problem.gradients([p])
        optimizer.step()
        z.append(optimizer.state[p]["z"].clone())
    optimizer.eval()
    assert_equal_up_to_rounding(p.detach(), torch.stack(z).mean(0))


@every_class
def test_weight_decay_is_taken_at_y(cls):
    run = Run(cls)
    assert_equal_up_to_rounding(decayed(run), run.y[-1])
    assert not torch.allclose(run.y[-1], run.z[-1])


@adams
@pytest.mark.parametrize("sequence", ["x", "y", "z"])
def test_weight_decay_is_taken_where_it_is_asked_for(cls, sequence):
    run = Run(cls, decay_at=sequence)
    assert_equal_up_to_rounding(decayed(run), getattr(run, sequence)[-1])
    assert not torch.allclose(run.x[-1], run.y[-1])


@adams
@pytest.mark.parametrize("sequence", ["x", "y", "z"])
def test_weight_decay_leaves_x_the_average_of_z(cls, sequence):
    # facebookresearch/optimizers' GPA decays z before y is moved towards it, and loses the average.
    run = Run(cls, decay_at=sequence, weight_decay=2.0, betas=(0.9, 0.99))
    weights = [1.0] * STEPS
    if cls is ScheduleFreeRAdam:
        weights = [rectified(0.99, k) ** 2 for k in range(1, STEPS + 1)]
    assert_equal_up_to_rounding(run.x[-1], run.average(weights))
    assert_equal_up_to_rounding(run.y[-1], 0.1 * run.z[-1] + 0.9 * run.x[-1])


def decayed(run: Run) -> Tensor:
    """What weight decay makes smaller in a step without a gradient."""
    optimizer, (p,) = run.optimizer, run.optimizer.param_groups[0]["params"]
    optimizer.param_groups[0]["weight_decay"] = 0.5
    p.grad = torch.zeros_like(p)
    optimizer.step()
    lr = 0.1
    if isinstance(optimizer, ScheduleFreeRAdam):
        lr *= rectified(0.999, STEPS + 1)
    return (run.z[-1] - optimizer.state[p]["z"]) / (lr * 0.5)


@adams
@given(beta=st.floats(0.1, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_one_averaging_constant_changes_nothing(cls, beta, seed):
    plain = Run(cls, seed, betas=(beta, 0.99))
    refined = Run(cls, seed, betas=(beta, 0.99), averaging_constant=1 / (1 - beta))
    assert_equal_up_to_rounding(refined.x[-1], plain.x[-1])


@adams
def test_an_averaging_constant_makes_the_window_independent_of_beta(cls):
    # The weight of z in x, seen in the last step of two runs.
    shares = []
    for beta in (0.5, 0.9):
        run = Run(cls, betas=(beta, 0.99), averaging_constant=3 / (1 - beta))
        fresh, old, new = run.z[-1], run.x[-2], run.x[-1]
        shares.append(((new - old) / (fresh - old)).mean())
    assert_equal_up_to_rounding(shares[0], shares[1])
    assert shares[0] > 2.5 / STEPS


@adams
def test_a_large_averaging_constant_turns_averaging_off(cls):
    run = Run(cls, averaging_constant=1e6)
    assert_equal_up_to_rounding(run.x[-1], run.z[-1])


@adams
def test_an_averaging_constant_needs_beta_below_1(cls):
    p = torch.zeros(1, requires_grad=True)
    with pytest.raises(ValueError, match=r"averaging_constant must lie in \(0, 1\), got 1.0"):
        cls([p], betas=(1.0, 0.99), averaging_constant=50.0)


@adams
def test_without_inner_momentum_no_memory_is_spent_on_it(cls):
    without, with_momentum = (
        run.optimizer.state[run.optimizer.param_groups[0]["params"][0]]
        for run in (Run(cls), Run(cls, inner_momentum=0.9))
    )
    assert with_momentum.keys() - without.keys() == {"exp_avg"}


def test_inner_momentum_averages_the_gradients():
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = ScheduleFreeAdamW([p], lr=1.0, inner_momentum=0.5, betas=(0.9, 0.0), eps=0.0)
    # beta2 = 0: the denominator is the size of the last gradient.
    for grad, expected in ((1.0, 1.0), (-1.0, (0.25 - 0.5) / 0.75), (1.0, (0.375) / 0.875)):
        before = optimizer.state[p]["z"].item() if p in optimizer.state else 0.0
        p.grad = torch.full_like(p, grad)
        optimizer.step()
        assert before - optimizer.state[p]["z"].item() == pytest.approx(expected)


def test_radam_learns_only_the_second_moment_in_its_first_steps():
    problem = Valley.random([(5,)], 0)
    (p,) = problem.start
    before = p.clone()
    optimizer = ScheduleFreeRAdam([p.requires_grad_()])
    moved = []
    for _ in range(8):
        (p.grad,) = problem.gradients([p])
        optimizer.step()
        moved.append(not torch.equal(p, before))
    assert moved == [False] * 4 + [True] * 4
    optimizer.eval()
    assert p.isfinite().all()


@pytest.mark.parametrize("beta2", [0.95, 0.999])
def test_radam_weighs_a_step_by_the_square_of_its_rectification(beta2):
    run = Run(ScheduleFreeRAdam, betas=(0.9, beta2))
    weights = [rectified(beta2, k) ** 2 for k in range(1, STEPS + 1)]
    assert_equal_up_to_rounding(run.x[-1], run.average(weights))


def test_radams_steps_are_those_of_torch():
    p, q = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in "pq")
    ours = ScheduleFreeRAdam([p], lr=1.0, eps=0.0)
    theirs = torch.optim.RAdam([q], lr=1.0, betas=(0.0, 0.999), eps=0.0)
    p.grad = q.grad = torch.ones_like(p)
    steps = []
    for _ in range(20):
        q_before = q.item()
        z_before = ours.state[p]["z"].item() if p in ours.state else 0.0
        ours.step()
        theirs.step()
        steps.append((z_before - ours.state[p]["z"].item(), q_before - q.item()))
    # torch takes steps of SGD for one step longer, until the length is above 5.
    for z_step, q_step in steps[5:]:
        assert z_step == pytest.approx(q_step)


def test_adamw_does_not_see_the_scale_of_the_loss():
    # A power of two scales without rounding, and eps vanishes beside sqrt(v).
    ends = []
    for scale in (1.0, 2.0**-20):
        problem = Valley.random([(5,)], 0)
        (p,) = problem.start
        optimizer = ScheduleFreeAdamW([p.requires_grad_()], eps=1e-300)
        for _ in range(STEPS):
            p.grad = scale * problem.gradients([p])[0]
            optimizer.step()
        ends.append(p)
    assert torch.equal(*ends)


@adams
def test_weight_decay_at_x_is_at_the_average_while_beta_changes(cls):
    run = Run(cls, decay_at="x")
    run.optimizer.param_groups[0]["betas"] = (0.5, 0.999)
    assert_equal_up_to_rounding(decayed(run), run.x[-1])


def test_a_context_within_another_ends_at_the_evaluation_weights():
    run = Run(ScheduleFreeSGD)
    optimizer, (p,) = run.optimizer, run.optimizer.param_groups[0]["params"]
    with optimizer.evaluation_weights():
        optimizer.train()
        with optimizer.evaluation_weights():
            pass
        assert_equal_up_to_rounding(p.detach(), run.x[-1])
