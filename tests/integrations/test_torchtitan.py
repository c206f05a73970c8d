"""Optimizers, schedules and checkpoints of torchtitan; its Trainer needs a GPU."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("torchtitan")

import torchtitan
from ours import OURS, SCHEDULE_FREE
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torchtitan.components.checkpointer import CheckpointManager
from torchtitan.components.optimizer import (
    LRSchedulersContainer,
    OptimizersContainer,
    ParamGroupConfig,
)
from torchtitan.distributed import ParallelDims

import selftune
from benchmarks.frameworks.problem import (
    alike,
    loss_of,
    net,
    same_bits,
    training_batches,
    weights_of,
)
from benchmarks.ranks import on_ranks
from selftune import ScheduleFreePlus, attach
from selftune.optim import partitioned

EPOCHS = 4


class Optimizers(OptimizersContainer):
    """That of docs/frameworks.md."""

    @dataclass(kw_only=True, slots=True)
    class Config(OptimizersContainer.Config):
        pass

    @staticmethod
    def _resolve_optimizer_factory(name):
        return getattr(selftune, name)

    def __init__(self, config, *, model_parts):
        super().__init__(config, model_parts=model_parts)
        for part, optimizer in zip(model_parts, self.optimizers, strict=True):
            attach(part, optimizer)


class Partitioned(Optimizers):
    @staticmethod
    def _resolve_optimizer_factory(name):
        return partitioned(getattr(selftune, name))


class OfAll(Optimizers):
    """One optimizer of all model parts."""

    @dataclass(kw_only=True, slots=True)
    class Config(Optimizers.Config):
        pass

    def __init__(self, config, *, model_parts):
        (group,) = config.param_groups
        make = self._resolve_optimizer_factory(group.optimizer_name)
        named = [pair for part in model_parts for pair in part.named_parameters()]
        self.model_parts = model_parts
        self.optimizers = [make(named, **group.optimizer_kwargs)]
        self._post_init([p for _, p in named])
        attach(model_parts, *self.optimizers)


def config_of(name, options, container=Optimizers):
    group = ParamGroupConfig(pattern=r".*", optimizer_name=name, optimizer_kwargs=options)
    return container.Config(param_groups=[group], implementation="for-loop")


class Run:
    """What torchtitan's Trainer makes of model parts, and trains and saves them with."""

    def __init__(self, parts, subject, folder, container):
        self.parts, self.model = parts, parts[0] if len(parts) == 1 else nn.Sequential(*parts)
        config = config_of(subject.name, subject.options, container)
        self.optimizers = config.build(model_parts=parts)
        schedule = LRSchedulersContainer.Config(warmup_steps=0, decay_ratio=0.0)
        self.schedules = schedule.build(optimizers=self.optimizers, training_steps=100)
        self.step = 0
        config = CheckpointManager.Config(enable=True, interval=1, keep_latest_k=0)
        self.checkpoints = config.build(
            dataloader=None,
            model_parts=parts,
            optimizers=self.optimizers,
            lr_schedulers=self.schedules,
            states={},
            sd_adapter=None,
            base_folder=str(folder),
        )

    def train(self, epochs):
        for part in self.parts:
            part.train()
        for _ in range(epochs):
            for batch in batches():
                loss = loss_of(self.model, batch)
                for optimizer in self.optimizers:
                    if isinstance(optimizer, ScheduleFreePlus):
                        optimizer.add_loss(loss)
                loss.backward()
                self.optimizers.step()
                self.schedules.step()
                self.optimizers.zero_grad()
                self.step += 1

    def weights(self):
        """The evaluation weights, whole on every rank."""
        for part in self.parts:
            part.eval()
        return {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in weights_of(self.model).items()
        }


def trained_and_resumed(parts, subject, folder, container=Optimizers):
    """The evaluation weights of a run, and of one that goes on from its checkpoint.

    parts: a function that makes the model parts.
    """
    run = Run(parts(), subject, folder, container)
    run.train(EPOCHS // 2)
    run.checkpoints.save(run.step)
    run.train(EPOCHS // 2)
    resumed = Run(parts(), subject, folder, container)
    assert resumed.checkpoints.load()
    resumed.train(EPOCHS // 2)
    return run.weights(), resumed.weights()


def batches():
    """In float64, in which rounding does not grow into a difference."""
    return [[each.double() for each in batch] for batch in training_batches()]


def whole():
    return [net().double()]


def sharded():
    return [fully_shard(net().double())]


def two_parts():
    torch.manual_seed(0)
    parts = nn.Sequential(nn.Linear(6, 12), nn.Tanh()), nn.Linear(12, 1)
    return [part.double() for part in parts]


def trained_without_torchtitan(model, subject):
    optimizer = subject.make(model.parameters())
    attach(model, optimizer)
    for _ in range(EPOCHS):
        for batch in batches():
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.step(**({"loss": loss} if isinstance(optimizer, ScheduleFreePlus) else {}))
            optimizer.zero_grad()
    model.eval()
    return weights_of(model)


every_subject = pytest.mark.parametrize("subject", OURS, ids=lambda subject: subject.name)


@every_subject
def test_a_run_is_that_of_the_optimizer_alone_and_resumes_bit_for_bit(subject, tmp_path):
    run, resumed = trained_and_resumed(whole, subject, tmp_path)
    assert alike(run, trained_without_torchtitan(*whole(), subject))
    assert same_bits(run, resumed)


def sharded_runs(folder):
    return {s.name: trained_and_resumed(sharded, s, f"{folder}/{s.name}") for s in OURS}


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory):
    return on_ranks(2, sharded_runs, str(tmp_path_factory.mktemp("sharded")))


@every_subject
def test_two_ranks_are_judged_at_the_weights_of_one_and_resume_bit_for_bit(subject, on_two_ranks):
    alone = trained_without_torchtitan(*whole(), subject)
    for run, resumed in (runs[subject.name] for runs in on_two_ranks):
        assert alike(run, alone)
        assert same_bits(run, resumed)


def test_model_parts_of_a_method_that_learns_nothing_from_all_are_those_of_one_model(tmp_path):
    run, resumed = trained_and_resumed(two_parts, SCHEDULE_FREE, tmp_path)
    assert alike(run, trained_without_torchtitan(nn.Sequential(*two_parts()), SCHEDULE_FREE))
    assert same_bits(run, resumed)


@every_subject
def test_one_optimizer_of_all_model_parts_is_that_of_one_model(subject, tmp_path):
    run, resumed = trained_and_resumed(two_parts, subject, tmp_path, OfAll)
    assert alike(run, trained_without_torchtitan(nn.Sequential(*two_parts()), subject))
    assert same_bits(run, resumed)


@pytest.mark.parametrize("name", ["SelfTune", "Prodigy", "ScheduleFreePlus"])
def test_model_parts_are_refused_by_a_method_that_learns_from_all(name):
    with pytest.raises(ValueError, match=rf"2 model parts.*partitioned\({name}, group\)"):
        config_of(name, {}).build(model_parts=two_parts())


def test_a_stage_of_a_pipeline_has_to_be_told_to_a_method_that_learns_from_all():
    trainer = Path(torchtitan.__file__).with_name("trainer.py").read_text()
    assert "self.parallel_dims = parallel_dims = " in trainer  # by which the pipeline is found
    parallel_dims = ParallelDims(1, 1, 1, 1, pp=2, ep=1, world_size=2)
    assert parallel_dims.pp_enabled
    prodigy = config_of("Prodigy", {})
    with pytest.raises(ValueError, match=r"torchtitan's pipeline .*partitioned\(Prodigy\)"):
        prodigy.build(model_parts=whole())
    assert len(Partitioned(prodigy, model_parts=whole())) == 1
