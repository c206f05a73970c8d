"""The adapter in two processes with gloo, standing in for GPUs with NCCL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from eval.algoperf.submission.all_gpus import mean_loss
from eval.algoperf.submission.method_state import MethodState

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    store = tmp_path_factory.mktemp("gloo") / "store"
    path = os.pathsep.join([str(HERE), str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "gloo.py"), str(rank), str(store)],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    ended = [process.communicate(timeout=300) for process in processes]
    done = {line for line in ended[0][0].splitlines() if line in ended[1][0].splitlines()}
    return done, "".join(errors[-3000:] for _, errors in ended)


def test_gradients_are_those_of_the_mean_over_all_examples_of_all_processes(output):
    done, errors = output
    assert "global mean" in done, errors


def test_they_are_after_a_resume_which_hands_the_model_back_without_ddp(output):
    done, errors = output
    assert "without DDP" in done, errors


def test_evaluation_weights_and_batch_norm_statistics_are_the_same_in_all_processes(output):
    done, errors = output
    assert "statistics" in done, errors


def test_what_one_process_expects_all_do(output):
    done, errors = output
    assert "agreed" in done, errors


def test_in_one_process_it_is_the_plain_mean():
    summed = torch.tensor(6.0, requires_grad=True)
    share, mean = mean_loss(summed, torch.tensor(4))
    share.backward()
    assert mean.item() == 1.5
    assert summed.grad is not None
    assert summed.grad.item() == 0.25


def test_a_method_is_built_on_the_innermost_model():
    built_on = []

    def build(model, num_steps):
        built_on.append(model)
        return torch.optim.SGD(model.parameters(), lr=0.1), None, None

    model = nn.Linear(2, 2)
    compiled = torch.compile(model, backend="eager")
    for wrapped in (model, compiled, nn.DataParallel(model), nn.DataParallel(compiled)):
        MethodState(build, wrapped, num_steps=10)
    assert built_on == [model] * 4
