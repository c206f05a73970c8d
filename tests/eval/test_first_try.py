"""Errors for methods that cannot be used, before anything runs."""

from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from builds import sgd, sgd_evaluated_where_it_trains
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from trials import TRIAL

from eval import first_try
from eval.first_try import refuse_unusable, tried
from eval.snapshot import Snapshot
from eval.user_code import Reference
from selftune.optim import ScheduleFreeAdamW


def adam(model):
    return torch.optim.Adam(model.parameters())


def optimizer_alone(model, num_steps):
    return adam(model)


def optimizer_and_scheduler(model, num_steps):
    return adam(model), None


def forgotten_return(model, num_steps):
    adam(model)


def model_for_optimizer(model, num_steps):
    return model, None, None


def plateau(model, num_steps):
    optimizer = adam(model)
    return optimizer, ReduceLROnPlateau(optimizer), None


def context(model, num_steps):
    return adam(model), None, nullcontext()


def context_made_by_a_generator(model, num_steps):
    @contextmanager
    def weights():
        yield

    return adam(model), None, weights()


def weights_without_a_context(model, num_steps):
    return adam(model), None, lambda: None


def state_for_weights(model, num_steps):
    return adam(model), None, model.state_dict()


def schedule_for_scheduler(model, num_steps):
    return adam(model), lambda step: 1.0, None


def optimizer_of_a_copy(model, num_steps):
    return adam(deepcopy(model)), None, None


def scheduler_of_another_optimizer(model, num_steps):
    return adam(model), StepLR(adam(model), 1), None


def average_without_weights(model, num_steps):
    return ScheduleFreeAdamW(model.parameters()), None, None


def one_argument(model):
    return adam(model), None, None


def exits(model, num_steps):
    raise SystemExit("no licence")


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (optimizer_alone, "optimizer_alone returned an optimizer alone; return optimizer, sched"),
        (optimizer_and_scheduler, "returned 2 things; return optimizer, scheduler, weights"),
        (forgotten_return, "forgotten_return returned None; return optimizer"),
        (model_for_optimizer, "returned a Sequential for an optimizer"),
        (plateau, "returned a ReduceLROnPlateau, whose step() requires metrics; step() is called"),
        (context, "returned a nullcontext for its evaluation weights, which can be entered"),
        (context_made_by_a_generator, "return a function that makes one"),
        (weights_without_a_context, "evaluation weights returned None; it must return a context"),
        (state_for_weights, "for its evaluation weights; return a function that returns a con"),
        (schedule_for_scheduler, "returned a function for a scheduler"),
        (optimizer_of_a_copy, "an optimizer that holds none of the model's parameters"),
        (scheduler_of_another_optimizer, "a scheduler of an optimizer other than the one"),
        (average_without_weights, "no evaluation weights, but ScheduleFreeAdamW evaluates at"),
        (one_argument, "takes 1 positional argument but 2 were given"),
        (exits, "SystemExit: no licence"),
    ],
)
def test_what_a_build_gets_wrong_is_said_in_a_sentence(build, sentence):
    said = tried(replace(TRIAL, build=build))
    assert said is not None
    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize("build", [sgd, sgd_evaluated_where_it_trains])
def test_a_method_that_trains_passes(build):
    assert tried(replace(TRIAL, build=build)) is None


def test_every_own_method_is_tried_once_on_its_first_workload(monkeypatch):
    own = Reference("mine.py", "fast", Snapshot("mine", None, ()))
    seen = []
    monkeypatch.setattr(first_try, "_reason", lambda trial: seen.append(trial))
    trials = [replace(TRIAL, build=own, method=m, study=k) for k in (0, 1) for m in ("a", "b")]
    refuse_unusable([*trials, TRIAL])
    assert {(trial.method, trial.study) for trial in seen} == {("a", 0), ("b", 0)}
    monkeypatch.setattr(first_try, "_reason", lambda trial: "no wheel")
    with pytest.raises(ValueError, match="a cannot train late_flights: no wheel"):
        refuse_unusable(trials[:1])
