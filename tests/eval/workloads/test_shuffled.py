from itertools import islice

import torch

from eval.workloads.shuffled import shuffled


def batches(rows, batch_size, number, seed=0):
    columns = torch.arange(rows), 10 * torch.arange(rows)
    stream = shuffled(columns, batch_size, torch.Generator().manual_seed(seed))
    return list(islice(stream, number))


def test_the_columns_of_a_row_stay_together():
    assert all(torch.equal(10 * one, other) for one, other in batches(12, 4, 5))


def test_an_epoch_shows_every_row_once():
    epoch = torch.cat([one for one, _ in batches(12, 4, 3)])
    assert sorted(epoch.tolist()) == list(range(12))


def test_epochs_differ_in_their_order():
    first, second = batches(12, 12, 2)
    assert not torch.equal(first[0], second[0])


def test_every_batch_is_full():
    assert [len(one) for one, _ in batches(11, 4, 6)] == [4] * 6


def test_a_seed_settles_the_order():
    one, same, other = (batches(12, 4, 1, seed)[0][0] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
