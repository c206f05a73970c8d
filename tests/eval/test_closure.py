"""Optimizers that call the closure of their step, once or several times."""

from dataclasses import replace

import pytest
import torch
from late_flights import LATE_FLIGHTS
from torch import nn

from eval.training import Seeds, train

# Without dropout, which draws anew in every pass
WORKLOAD = replace(LATE_FLIGHTS, build_model=lambda: nn.Linear(13, 1))
SEEDS = Seeds.of("late_flights", study=0, seed=0)


def run(build, steps=4):
    return [e.loss for e in train(WORKLOAD, build, SEEDS, steps, "cpu")]


class _Asking(torch.optim.SGD):
    """Does something before it asks for the loss, and keeps what it is told."""

    def __init__(self, model, before):
        super().__init__(model.parameters(), lr=0.1)
        self.before, self.told = before, []

    def step(self, closure=None):
        own = [p.grad.clone() for p in self.param_groups[0]["params"]]
        weights = [p.detach().clone() for p in self.param_groups[0]["params"]]
        self.before(self.param_groups[0]["params"])
        loss = closure()
        gradients = [p.grad.clone() for p in self.param_groups[0]["params"]]
        self.told.append((loss, own, gradients))
        with torch.no_grad():
            for p, old in zip(self.param_groups[0]["params"], weights, strict=True):
                p.copy_(old)
        super().step()


def told(before):
    """What one step is told after `before`: the loss, own gradients, and those then in place."""
    made = []

    def build(model, num_steps):
        made.append(_Asking(model, before))
        return made[0], None, None

    run(build, steps=1)
    return made[0].told[0]


def nothing(parameters):
    pass


@torch.no_grad()
def moved(parameters):
    for p in parameters:
        p.add_(0.1)


def moved_unseen(parameters):
    for p in parameters:
        p.data += 0.1


def moved_by_assignment(parameters):
    for p in parameters:
        p.data = p.data + 0.1


@pytest.mark.parametrize("move", [moved, moved_unseen, moved_by_assignment])
def test_a_closure_called_after_the_weights_moved_computes_loss_and_gradients_again(move):
    at_start, own, _ = told(nothing)
    loss, _, gradients = told(move)
    assert loss != at_start
    assert not any(map(torch.equal, gradients, own))


def test_a_closure_called_where_the_weights_are_computes_nothing_again():
    passes = []

    def counted(model, batch):
        passes.append(batch)
        return LATE_FLIGHTS.loss(model, batch)

    asking = lambda model, n: (_Asking(model, nothing), None, None)  # noqa: E731
    list(train(replace(WORKLOAD, loss=counted), asking, SEEDS, 4, "cpu"))
    assert len(passes) == 4
    _, own, gradients = told(nothing)
    assert all(map(torch.equal, gradients, own))


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_were_cleared_are_computed_again(to_none):
    def clear(parameters):
        torch.optim.SGD(parameters, lr=1.0).zero_grad(set_to_none=to_none)

    _, own, gradients = told(clear)
    assert all(map(torch.equal, gradients, own))


class _Sam(torch.optim.Optimizer):
    """Sharpness-aware minimization by SGD."""

    def __init__(self, model, radius):
        super().__init__(model.parameters(), {"lr": 0.1})
        self.radius = radius

    @torch.no_grad()
    def step(self, closure=None):
        params = self.param_groups[0]["params"]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        away = [self.radius * p.grad / norm for p in params]
        for p, step in zip(params, away, strict=True):
            p += step
        closure()
        for p, step in zip(params, away, strict=True):
            p -= step
            p -= 0.1 * p.grad


def test_sam_is_not_sgd():
    def sam(radius):
        return lambda model, num_steps: (_Sam(model, radius), None, None)

    small, large = run(sam(1e-12)), run(sam(0.5))
    sgd = run(lambda model, n: (torch.optim.SGD(model.parameters(), lr=0.1), None, None))
    assert small == pytest.approx(sgd, rel=1e-5)
    assert large != pytest.approx(sgd, rel=1e-3)


def test_lbfgs_lowers_the_loss_of_a_batch_within_its_step():
    class Seen(torch.optim.LBFGS):
        losses: list = []  # noqa: RUF012

        def step(self, closure):
            def seen():
                loss = closure()
                self.losses.append(float(loss))
                return loss

            return super().step(seen)

    def build(model, num_steps):
        return Seen(model.parameters(), lr=0.1, max_iter=4), None, None

    run(build, steps=1)
    assert len(Seen.losses) > 2
    assert Seen.losses == sorted(Seen.losses, reverse=True)
    assert Seen.losses[-1] < Seen.losses[0]


def test_a_method_that_asks_in_some_steps_only_is_answered_at_its_weights():
    class Now(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            self.steps += 1
            if self.steps == 3:
                before = [p.grad.clone() for p in self.param_groups[0]["params"]]
                closure()
                again = [p.grad for p in self.param_groups[0]["params"]]
                assert all(map(torch.allclose, before, again))
            return super().step()

    losses = run(lambda model, n: (Now(model.parameters(), lr=0.1), None, None))
    sgd = run(lambda model, n: (torch.optim.SGD(model.parameters(), lr=0.1), None, None))
    assert losses == pytest.approx(sgd, rel=1e-5)
