"""Monitor on two ranks that hold half of every parameter each."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from benchmarks.ranks import on_ranks
from selftune import Monitor, ScheduleFree, ScheduleFreeProdigy, SelfTune, explain


def around_rmsprop(params):
    return ScheduleFree(torch.optim.RMSprop(params))


MAKES = (SelfTune, ScheduleFreeProdigy, around_rmsprop)


def rows_of(make, sharded):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    inputs = torch.randn(8, 5, dtype=torch.float64)
    if sharded:
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizer = make(model.parameters())
    monitor = Monitor(optimizer, every=2)
    for _ in range(4):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    return monitor.rows, explain(optimizer)


def measured():
    return [[rows_of(make, sharded) for sharded in (False, True)] for make in MAKES]


def test_the_numbers_of_a_sharded_run_are_those_of_the_whole_on_every_rank():
    for rank in on_ranks(2, measured):
        for (whole, said), (sharded, said_sharded) in rank:
            assert len(sharded) == 2
            for one, other in zip(whole, sharded, strict=True):
                assert other == pytest.approx(one, rel=1e-9)
            assert said_sharded == said


def write_file(path):
    p = torch.ones(3, requires_grad=True)
    monitor = Monitor(optimizer := torch.optim.SGD([p]), to=path, every=1)
    for _ in range(3):
        p.grad = torch.ones(3)
        optimizer.step()
    return len(monitor.rows)


def test_a_file_has_one_row_for_each_step_whatever_the_number_of_ranks(tmp_path):
    assert on_ranks(2, write_file, tmp_path / "optimizer.csv") == [3, 3]
    assert (tmp_path / "optimizer.csv").read_text().count("\n") == 4
