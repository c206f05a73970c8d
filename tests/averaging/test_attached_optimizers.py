"""WeightAverage.attach: which optimizers it follows; SnapshotStore after a resume."""

import pytest
import torch
from torch import nn

from selftune.averaging import PowerEMA, SnapshotStore, Tail, WeightAverage
from selftune.optim import ScheduleFree, ScheduleFreeSGD, SelfTune, attach
from selftune.step_hooks import innermost_optimizer


class Prepared(torch.optim.Optimizer):
    """An optimizer as accelerate prepares it: it holds another, and hooks of its own it has not."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.optimizer.param_groups

    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.optimizer.step(closure)


def test_an_optimizer_of_another_model_is_refused():
    average = WeightAverage(nn.Linear(2, 2), Tail(), total_steps=9)
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="SGD holds none of the parameters of this Linear"):
        average.attach(other)


def test_one_of_several_optimizers_of_a_model_is_followed():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first, last = (torch.optim.SGD(part.parameters(), lr=0.1) for part in model)
    average = WeightAverage(model, Tail(), total_steps=9)
    average.attach(last)
    for optimizer in (first, last, first, last):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert average.steps == 2


def test_what_accelerate_prepares_is_seen_through():
    model = nn.Linear(2, 2)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    average = WeightAverage(model, Tail(), total_steps=9)
    average.attach(Prepared(inner))
    inner.step()
    assert average.steps == 1


MAKE = {
    "ScheduleFreeSGD": lambda params: ScheduleFreeSGD(params, lr=0.1),
    "ScheduleFree": lambda params: ScheduleFree(torch.optim.SGD(params, lr=0.1)),
    "SelfTune": SelfTune,
}


@pytest.mark.parametrize("name", MAKE)
def test_beside_an_averaging_method_that_is_not_attached_the_right_way_is_named(name):
    model = nn.Linear(2, 2)
    optimizer = MAKE[name](model.parameters())
    with pytest.warns(UserWarning, match=rf"^{name} has an average .*attach\(model, optimizer\)"):
        WeightAverage(model, Tail(), total_steps=9).attach(optimizer)


@pytest.mark.parametrize("name", MAKE)
def test_beside_an_attached_averaging_method_nothing_is_said(name):
    model = nn.Linear(2, 2)
    optimizer = MAKE[name](model.parameters())
    attach(model, optimizer)
    WeightAverage(model, Tail(), total_steps=9).attach(optimizer)


def test_a_scheduler_is_no_optimizer_though_it_holds_one():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.raises(ValueError, match="expected a torch optimizer, got a StepLR"):
        innermost_optimizer(scheduler)
    with pytest.raises(ValueError, match="attach\\(\\) takes a torch optimizer, got a StepLR"):
        WeightAverage(model, Tail(), total_steps=9).attach(scheduler)  # pyright: ignore[reportArgumentType]


def test_a_snapshot_of_an_earlier_step_drops_the_later_ones_of_its_width(tmp_path):
    store, model = SnapshotStore(tmp_path), nn.Linear(2, 2)
    for _ in range(2):  # the run, and again from an older checkpoint
        averages = [WeightAverage(model, PowerEMA(sigma)) for sigma in (0.05, 0.1)]
        for _ in range(4):
            for average in averages:
                average.update()
                store.add(average)
            if averages[1].steps == 2 and len(list(tmp_path.glob("*.pt"))) == 8:
                pytest.fail("snapshots of the lost branch are still there")
    steps = sorted(path.name.split("-")[0] for path in tmp_path.glob("*-sigma0.05.pt"))
    assert steps == [f"step{step:010d}" for step in range(1, 5)]


def test_snapshots_of_other_widths_stay(tmp_path):
    store, model = SnapshotStore(tmp_path), nn.Linear(2, 2)
    for sigma in (0.05, 0.1):
        average = WeightAverage(model, PowerEMA(sigma))
        for _ in range(3):
            average.update()
            store.add(average)
    assert len(list(tmp_path.glob("*.pt"))) == 6
