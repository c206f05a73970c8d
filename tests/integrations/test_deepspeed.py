"""DeepSpeed's engine without ZeRO and with its stages 1 and 2, on one rank and on two."""

import os
from dataclasses import dataclass

import pytest
import torch

os.environ["DS_ACCELERATOR"] = "cpu"  # read when it is imported
pytest.importorskip("deepspeed")

import deepspeed
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from ours import OURS, SCHEDULE_FREE
from torch import distributed

from benchmarks.frameworks.problem import (
    BATCH,
    loss_of,
    net,
    same_bits,
    training_batches,
    weights_of,
)
from benchmarks.ranks import on_ranks
from selftune import EMA, LDoG, Prodigy, ScheduleFreePlus, SelfTune, WeightAverage, attach
from selftune.optim import partitioned

EPOCHS = 2  # before a checkpoint, and after it
WITHOUT_ZERO = {subject.name: subject.make for subject in OURS}
WITH_ZERO = {
    SCHEDULE_FREE.name: SCHEDULE_FREE.make,
    "Prodigy": partitioned(Prodigy),
    "ScheduleFreePlus": partitioned(ScheduleFreePlus),
}
RUNS = [(0, name) for name in WITHOUT_ZERO] + [(s, name) for s in (1, 2) for name in WITH_ZERO]


@dataclass
class Run:
    """What a rank sees of a run.

    judged: the evaluation weights after each epoch.
    resumed: those at the end of a run that goes on from a checkpoint of its middle.
    """

    judged: list
    resumed: dict
    d: float | None


def engine_of(optimizer_of, stage):
    # Its all-reduce in shared memory, which it would compile first; gloo's takes its place.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ["LOCAL_RANK"] = str(distributed.get_rank())
    model = net()
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer_of(model.parameters()),
        config={
            "train_batch_size": BATCH,
            "gradient_clipping": 0.0,  # to norm 1 by default
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
        },
        dist_init_required=False,
    )
    if stage == 0:
        attach(engine.module, engine.optimizer)
    return engine


def mean_over_ranks(loss):
    mean = loss.detach() / distributed.get_world_size()
    distributed.all_reduce(mean)
    return mean


def train(engine, epochs):
    """Train on this rank's rows; return the evaluation weights after each epoch."""
    zero = engine.optimizer if isinstance(engine.optimizer, DeepSpeedZeroOptimizer) else None
    optimizer = zero.optimizer if zero else engine.optimizer
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    judged = []
    for _ in range(epochs):
        engine.train()
        for batch in training_batches():
            loss = loss_of(engine, [each[rank::ranks] for each in batch])
            if isinstance(optimizer, ScheduleFreePlus):
                # The ranks of a partitioned class find the mean by themselves.
                optimizer.add_loss(loss if zero else mean_over_ranks(loss))
            engine.backward(loss)
            engine.step()
        engine.eval()
        if zero:
            optimizer.eval()
            zero.update_lp_params()
        judged.append(weights_of(engine.module))
        if zero:
            optimizer.train()
            zero.update_lp_params()
    return judged


def run(optimizer_of, stage, folder):
    engine = engine_of(optimizer_of, stage)
    judged = train(engine, EPOCHS)
    engine.save_checkpoint(folder)
    judged += train(engine, EPOCHS)
    resumed = engine_of(optimizer_of, stage)
    resumed.load_checkpoint(folder)
    d = engine.optimizer.param_groups[0].get("d")
    return Run(judged, train(resumed, EPOCHS)[-1], d and float(d))


def refusal(function, *arguments):
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    return "none"


def all_runs(folder):
    runs = {}
    for stage, name in RUNS:
        optimizer_of = (WITH_ZERO if stage else WITHOUT_ZERO)[name]
        runs[stage, name] = run(optimizer_of, stage, f"{folder}/{stage}/{name}")
    for stage in (1, 2):
        for cls in (SelfTune, LDoG, Prodigy):
            runs[stage, cls] = refusal(train, engine_of(cls, stage), 1)
        engine = engine_of(SCHEDULE_FREE.make, stage)
        runs[stage, attach] = refusal(attach, engine.module, engine.optimizer)
        average = WeightAverage(engine.module, EMA(half_life=6))
        runs[stage, WeightAverage] = refusal(average.attach, engine.optimizer)
    return runs


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def world(request, tmp_path_factory):
    """What each rank of a world has seen."""
    return on_ranks(request.param, all_runs, str(tmp_path_factory.mktemp("deepspeed")))


def without_deepspeed(optimizer_of):
    """The evaluation weights of the same run in one process, after each epoch."""
    model = net()
    optimizer = optimizer_of(model.parameters())
    attach(model, optimizer)
    judged = []
    for _ in range(2 * EPOCHS):
        model.train()
        for batch in training_batches():
            loss = loss_of(model, batch)
            if isinstance(optimizer, ScheduleFreePlus):
                optimizer.add_loss(loss)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        judged.append(weights_of(model))
    return judged


every_run = pytest.mark.parametrize(("stage", "name"), RUNS)
with_zero = pytest.mark.parametrize("stage", [1, 2])


@every_run
def test_every_epoch_is_judged_at_the_weights_of_one_process(world, stage, name):
    alone = without_deepspeed(WITHOUT_ZERO[name])
    for rank in world:
        for ours, truth in zip(rank[stage, name].judged, alone, strict=True):
            # Rounding in float32, which a d that grows enlarges.
            torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-5)


@every_run
def test_a_checkpoint_resumes_bit_for_bit(world, stage, name):
    for rank in world:
        assert same_bits(rank[stage, name].resumed, rank[stage, name].judged[-1])


@with_zero
def test_all_ranks_learn_one_d_from_all_parts(world, stage):
    (d,) = {rank[stage, "Prodigy"].d for rank in world}
    assert d > 1e-2  # it began at 1e-6


@with_zero
@pytest.mark.parametrize("cls", [SelfTune, LDoG])
def test_flat_parts_are_refused_by_what_has_numbers_of_each_tensor(world, stage, cls):
    for rank in world:
        assert f"the parameters of {cls.__name__} were replaced by flat ones" in rank[stage, cls]
        assert "treat each as one tensor; use fully_shard" in rank[stage, cls]


@with_zero
def test_parts_of_several_ranks_are_refused_where_the_class_is_not_partitioned(world, stage):
    for rank in world:
        if len(world) == 1:
            assert rank[stage, Prodigy] == "none"  # its part is the whole
        else:
            assert "use selftune.optim.partitioned(Prodigy)" in rank[stage, Prodigy]


@with_zero
def test_attaching_to_an_optimizer_of_copies_is_refused(world, stage):
    for rank in world:
        assert "not copies or parts of its parameters (DeepSpeed)" in rank[stage, attach]
        assert "call update() after each of its steps" in rank[stage, WeightAverage]
