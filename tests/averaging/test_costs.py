"""The costs of an average, counted as the benchmark counts them."""

import argparse

import pytest
import torch
from torch import nn

from benchmarks.averaging import Traffic, adamw, counted, measure, ours, rarely
from selftune.averaging import EMA, LAWA, BlockLAWA, Polyak, PowerEMA, Profile

SIZES = [6000, 1000, 3000]


def weights(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = nn.ParameterList(torch.randn(size).to(dtype) for size in SIZES)
    for p in model:
        p.grad = torch.randn_like(p)
    return model


@pytest.mark.parametrize("profile", [EMA(half_life=9), Polyak(), PowerEMA()], ids=str)
def test_an_update_moves_three_words_where_adamw_moves_seven(profile: Profile):
    _, step = counted(adamw, weights())
    _, update = counted(ours(profile), weights())
    assert step.words == pytest.approx(7, abs=0.01)  # beside the tensors there are step counts
    assert update.words == 3
    assert update.kept == 1


def test_an_average_at_every_five_hundredth_of_the_run_moves_next_to_nothing():
    _, update = counted(rarely, weights())
    assert update.words == 3 / 200
    assert update.kept == 1


def test_lawa_keeps_its_snapshots_and_its_mean():
    _, update = counted(ours(LAWA(10, every=1)), weights())
    assert (update.kept, update.words) == (11, 11)


def test_lawa_by_blocks_keeps_two_words_whatever_k_is():
    for k in (2, 5, 10):
        assert counted(ours(BlockLAWA(k, every=1)), weights())[1].kept == 2


@pytest.mark.parametrize("profile", [EMA(half_life=9), LAWA(3, every=1), BlockLAWA(3, every=1)])
def test_no_memory_is_taken_but_what_is_kept_and_one_tensor_in_swap(profile: Profile):
    _, counts = counted(ours(profile), weights())
    assert counts.extra == 0
    assert counts.swap_extra == 4 * max(SIZES)


def test_an_average_of_bfloat16_is_converted_piece_by_piece(monkeypatch):
    monkeypatch.setattr("selftune.averaging.average_tensors.CHUNK", 6000)
    _, counts = counted(ours(EMA(half_life=9)), weights(torch.bfloat16))
    assert counts.words == 0.5 + 1 + 3  # read, written as float32, and an update with those
    assert counts.extra < 4 * sum(SIZES)


def test_an_offloaded_update_only_copies_on_this_thread():
    _, counts = counted(ours(EMA(half_life=9), offload=True), weights())
    assert counts.words == 2
    assert counts.kept == 2  # the average, and where the copy is staged


def test_what_is_read_written_and_held_is_counted():
    x = torch.zeros(100)
    with Traffic() as counted:
        y = x.clone()
        assert (counted.calls, counted.moved, counted.held) == (1, 800, 400)
        y[:50].mul_(2)
        assert (counted.calls, counted.moved, counted.held) == (3, 1200, 400)
        y.copy_(x)
        torch.empty_like(x)
        assert (counted.moved, counted.held, counted.most_held) == (2000, 400, 800)
        view = y[1:]
        del y
        assert counted.held == 400
        del view
        assert counted.held == 0


def test_the_table_has_a_row_for_every_contender(capsys):
    measure("tiny", [(20, 30), (7,)], argparse.Namespace(device="cpu", rounds=1))
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    names = [row[0].strip("| ") for row in rows]
    assert {"selftune EMA", "selftune LAWA(10)", "torch AveragedModel"} <= set(names)
    assert len({len(row) for row in rows}) == 1
