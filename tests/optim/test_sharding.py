"""Divided among ranks in any way, a run is the run of one process."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from contract import CLASSES, WRAPPED, with_decay, without_code_generator

from benchmarks.ranks import in_worlds, on_ranks
from benchmarks.sharding import BATCH, EVEN, FOUR, TWO, WAYS, Run, Runner, apart, train
from selftune.optim import Optimizer, Prodigy
from selftune.optim.engine.loss import with_mean

# By default these begin with steps so small that 20 of them show nothing.
LARGER = {"DAdaptAdaGrad": {"d0": 1e-2}, "LDoG": {"reps_rel": 1e-2}}
LIST = {
    cls.__name__: Runner(cls, {**with_decay(cls), **LARGER.get(cls.__name__, {})})
    for cls in CLASSES
}
AROUND = {cls.__name__: Runner(cls, with_decay(cls)) for cls in WRAPPED}
# They sum over all parameters; for the others all ways of dividing are the same.
LEARNERS = {
    cls.__name__: LIST[cls.__name__]
    for cls in CLASSES
    if cls.estimate is not Optimizer.estimate or cls.measure is not Optimizer.measure
}
COMPILED = {
    f"{name} compiled": Runner(runner.make, {**runner.options, "compile": True})
    for name, runner in LIST.items()
}
RUNNERS = {
    "DDP": {**LIST, **AROUND},
    "HSDP": {**LIST, **AROUND},
    "FSDP2 uneven": {**LIST, **COMPILED, **AROUND},
    "ZeRO": {**LIST, **COMPILED},
    "tensor parallel": LEARNERS,
    "tensor parallel x FSDP2": LEARNERS,
    "FSDP1": {**LEARNERS, "LDoG": LIST["LDoG"]},
}
REFUSED_IN_FSDP1 = {name for name, runner in LIST.items() if runner.make.wants_whole_tensors}
PLACES = [(2, way) for way in TWO] + [(4, way) for way in FOUR]
every_run = pytest.mark.parametrize(
    ("world_size", "way", "name"),
    [
        (size, way, name)
        for size, way in PLACES
        for name in RUNNERS.get(way, LIST)
        if way != "FSDP1" or name not in REFUSED_IN_FSDP1
    ],
)
in_float32 = pytest.mark.parametrize("name", LIST)
FLOAT32_WAY = "FSDP2 uneven"


def all_runs(ways: tuple[str, ...], float32: bool) -> dict[tuple[str, torch.dtype], Any]:
    """Every class in each of the ways, as one rank of the present world."""
    without_code_generator(pytest.MonkeyPatch())
    runs = {(way, torch.float64): train(RUNNERS.get(way, LIST), way) for way in ways}
    if float32:
        runs[FLOAT32_WAY, torch.float32] = train(LIST, FLOAT32_WAY, torch.float32)
    return runs


@pytest.fixture(scope="module")
def worlds() -> dict[int, Any]:
    return in_worlds({2: (all_runs, TWO, True), 4: (all_runs, FOUR, False)})


@functools.cache
def undivided(
    widths: tuple[int, ...] = EVEN, dtype: torch.dtype = torch.float64, order: int | None = None
) -> dict[str, Run]:
    """Every class on one process, the batches' rows in this order."""
    generator = torch.Generator().manual_seed(order or 0)
    rows = None if order is None else torch.randperm(BATCH, generator=generator)
    return train({**LIST, **AROUND}, None, dtype, widths, rows)


@every_run
def test_a_divided_run_is_the_run_of_one_process(worlds, world_size, way, name):
    expected = undivided(WAYS[way].widths)[name.removesuffix(" compiled")]
    for runs in worlds[world_size]:
        run = runs[way, torch.float64][name]
        assert run.error is None
        assert apart(run, expected) < 1e-9


@every_run
def test_every_rank_has_the_same_estimate(worlds, world_size, way, name):
    assert len({runs[way, torch.float64][name].d for runs in worlds[world_size]}) == 1


@every_run
def test_ranks_talk_once_before_a_step_and_learners_once_after_it(worlds, world_size, way, name):
    # Per process group: to skip a step whole, and to learn from it.
    groups = {"DDP": 0, "tensor parallel x FSDP2": 2}.get(way, 1)
    cls = {**LIST, **AROUND}[name.removesuffix(" compiled")].make
    learns = cls not in WRAPPED and cls.estimate is not Optimizer.estimate
    for runs in worlds[world_size]:
        talks = runs[way, torch.float64][name].all_reduces
        if "LDoG" in name or "SelfTune" in name:  # besides, the norms of all tensors
            assert max(talks) <= 2 * groups
        else:
            assert talks == {groups * (2 if learns else 1)}


def refusals() -> dict[str, str | None]:
    """What is said where an optimizer is not told that it holds a part, as one rank."""
    sample = {"Prodigy": Runner(Prodigy, {"slice_p": 11})}
    said = {"sample": train(sample, "FSDP1")["Prodigy"].error}
    for way in ("ZeRO", "FSDP1"):
        WAYS[way] = replace(WAYS[way], partitioned=False)
        said[way] = train({"AdamW": LIST["AdamW"]}, way)["AdamW"].error
    return said


def test_a_part_of_the_parameters_that_does_not_say_so_is_refused():
    dividers = {"ZeRO": "ZeroRedundancyOptimizer", "FSDP1": "FullyShardedDataParallel"}
    for said in on_ranks(2, refusals):
        sample = said.pop("sample")
        assert sample == "ValueError: slice_p must be 1 for sharded parameters, got 11"
        assert said == {
            way: f"ValueError: {divider} gives AdamW only this rank's part of the parameters, in "
            "plain tensors; use selftune.optim.partitioned(AdamW), or fully_shard"
            for way, divider in dividers.items()
        }


def test_a_rule_for_every_tensor_is_refused_where_tensors_are_cut_and_merged(worlds):
    for runs in worlds[2]:
        for name in REFUSED_IN_FSDP1:
            error = runs["FSDP1", torch.float64][name].error
            assert f"ValueError: {name} needs the norm of every tensor" in error


@in_float32
def test_in_float32_dividing_moves_a_run_no_further_than_reordering_its_batches(worlds, name):
    widths = WAYS[FLOAT32_WAY].widths
    expected = undivided(widths, torch.float32)[name]
    reordered = [apart(undivided(widths, torch.float32, seed)[name], expected) for seed in range(4)]
    for runs in worlds[2]:
        run = runs[FLOAT32_WAY, torch.float32][name]
        # Four orders do not show the largest difference that there is: twice theirs is allowed.
        assert apart(run, expected) <= 2 * max(reordered)


@in_float32
def test_every_rank_has_the_same_estimate_in_float32(worlds, name):
    assert len({runs[FLOAT32_WAY, torch.float32][name].d for runs in worlds[2]}) == 1


def test_the_loss_of_sharded_parameters_is_the_mean_over_the_ranks(monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: {"a": 2, "b": 3}[group])
    parts = [((), [torch.zeros(())]), (("a", "b"), [torch.zeros(())])]
    terms = [sums[-1].item() for _, sums in with_mean(parts, torch.tensor(12.0))]
    assert terms == [0.0, 2.0]  # of each rank, which the all-reduces add up
