"""One of the two processes of test_all_gpus: `python gloo.py RANK STORE`.

The adapter trains on half a batch each; everything is compared with one process on all of it.
"""

import os
import sys
from itertools import islice

import fake_runner
import torch
import torch.distributed as dist
from fake_runner import Runner, Workload, snapshot
from torch.nn.parallel import DistributedDataParallel

from eval.algoperf.submission.adapter import STATE, Submission
from eval.algoperf.submission.all_gpus import agreed
from eval.methods import METHODS

RANK, STORE = int(sys.argv[1]), sys.argv[2]
STEPS = 5
BATCH = 12


class Half(Workload):
    """Every process sees its part of a batch, of unequal sizes and with unequal weights."""

    def batches(self, seed=0, size=BATCH):
        part = slice(0, 5) if RANK == 0 else slice(5, size)
        for batch in super().batches(seed, size):
            yield {name: value[part] for name, value in batch.items()}


def without_norms(workload):
    """BatchNorm sees half a batch: of that, no gradient is the whole batch's."""
    model = workload.init_model_fn()
    model.norm, model.old_norm = torch.nn.Identity(), torch.nn.Identity()
    return model


def gradients_of_the_whole_batch(name):
    alone = Workload()
    model = without_norms(alone)
    optimizer, scheduler, _ = METHODS[name].build(model, alone.step_hint)
    for batch in islice(alone.batches(), STEPS):
        optimizer.zero_grad()
        loss = alone.loss_fn(batch["targets"], model(batch["inputs"], 0.0), batch["weights"])
        (loss["summed"] / loss["n_valid_examples"]).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return snapshot(model)


def check(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)


def main():
    fake_runner.install("v0.6")
    dist.init_process_group("gloo", init_method=f"file://{STORE}", rank=RANK, world_size=2)

    for name in ("nadamw", "prodigy"):
        model = DistributedDataParallel(without_norms(Half()))
        runner = Runner(Submission(METHODS[name].build), Half(), "v0.6", model)
        runner.train(STEPS, evaluate_every=100)
        check(snapshot(model.module), gradients_of_the_whole_batch(name))
    print("global mean")

    model = DistributedDataParallel(without_norms(Half()))
    runner = Runner(Submission(METHODS["nadamw"].build), Half(), "v0.6", model)
    checkpoint = runner.train(2, evaluate_every=2, save=True)
    runner.restore(checkpoint)
    assert runner.model is model.module
    runner.train(STEPS - 2, evaluate_every=100)
    check(snapshot(model.module), gradients_of_the_whole_batch("nadamw"))
    print("without DDP")

    model = DistributedDataParallel(Half().init_model_fn())
    build = METHODS["schedule_free_adamw"].build
    runner = Runner(Submission(build), Half(), "v0.6", model)
    runner.train(2, evaluate_every=2)
    mine = torch.cat([value.flatten() for value in runner.evaluations[0].values()])
    others = mine.clone()
    dist.all_reduce(others)
    torch.testing.assert_close(others / 2, mine)
    runner.state[STATE].leave_evaluation()
    print("statistics")

    assert agreed(RANK == 1)
    assert not agreed(False)
    print("agreed", flush=True)
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads can keep the interpreter from ending


if __name__ == "__main__":
    main()
