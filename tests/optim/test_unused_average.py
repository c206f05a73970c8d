"""The warning at the end of a program that trained an average and never used it."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from weakref import ref

import pytest
import torch
from torch import nn

import selftune
from selftune.optim.engine.unused_average import ENOUGH_STEPS, warn_of_unused

PROGRAM = """
import sys, torch, selftune
model = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
optimizers = [selftune.ScheduleFreeAdamW(part.parameters()) for part in model]
for _ in range(100):
    sum(part(torch.ones(1, 2)).sum() for part in model).backward()
    for optimizer in optimizers:
        optimizer.step()
torch.save(model.state_dict(), sys.argv[1])
"""


averaging = pytest.mark.parametrize(
    "make",
    [
        selftune.SelfTune,
        selftune.ScheduleFreeAdamW,
        lambda params: selftune.optim.ScheduleFree(torch.optim.SGD(params, lr=0.1)),
    ],
    ids=["SelfTune", "ScheduleFreeAdamW", "ScheduleFree(SGD)"],
)


@pytest.fixture(autouse=True)
def none_before():
    with warnings.catch_warnings(action="ignore"):
        warn_of_unused()


def trained(optimizer, model: nn.Module, steps: int = ENOUGH_STEPS) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()


def test_a_program_that_saves_training_weights_is_told_so_once_and_where_it_steps(tmp_path):
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, tmp_path / "model.pt"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr.count("UserWarning") == 1
    place, _, message = ran.stderr.partition(" UserWarning: ")
    assert place == f"{program}:8:"
    assert message.startswith("the evaluation weights of ScheduleFreeAdamW were never used")
    assert "attach(model, optimizer), or call optimizer.eval() before model.state_dict()" in message


@averaging
def test_weights_that_were_never_used_are_warned_of(make):
    model = nn.Linear(2, 1)
    optimizer = make(model.parameters())
    trained(optimizer, model)
    del optimizer  # it need not live
    with pytest.warns(UserWarning, match=r"the evaluation weights of \w+ were never used"):
        warn_of_unused()
    warn_of_unused()  # not again


@pytest.mark.parametrize("use", ["eval", "evaluation_weights", "state_dict"])
@averaging
def test_weights_that_were_used_or_saved_with_the_optimizer_are_not_warned_of(use, make):
    model = nn.Linear(2, 1)
    optimizer = make(model.parameters())
    trained(optimizer, model)
    if use == "evaluation_weights":
        with optimizer.evaluation_weights():
            pass
    else:
        getattr(optimizer, use)()
    warn_of_unused()


@pytest.mark.parametrize("late", [False, True])
def test_an_attached_model_is_saved_rightly_and_not_warned_of(late):
    model = nn.Linear(2, 1)
    optimizer = selftune.ScheduleFreeAdamW(model.parameters())
    trained(optimizer, model, ENOUGH_STEPS if late else 0)
    selftune.attach(model, optimizer)
    trained(optimizer, model, ENOUGH_STEPS)
    model.state_dict()
    warn_of_unused()


def test_short_trainings_and_methods_that_do_not_average_are_not_warned_of():
    model = nn.Linear(2, 1)
    trained(selftune.ScheduleFreeAdamW(model.parameters()), model, ENOUGH_STEPS - 1)
    trained(selftune.AdamW(model.parameters()), model)
    trained(selftune.Prodigy(model.parameters()), model)
    warn_of_unused()


@averaging
def test_no_memory_of_a_training_is_kept_for_the_warning(make):
    model = nn.Linear(2, 1)
    trained(make(model.parameters()), model)
    weight = ref(model.weight)
    del model
    gc.collect()
    assert weight() is None
