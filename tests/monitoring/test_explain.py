"""explain: facts about any optimizer, and a sentence for each thing that looks wrong."""

import math
import warnings

import pytest
import torch

from benchmarks.conformance.problem import AroundOurs, AroundTorchs, take_step, train, weights
from selftune import Monitor, attach, explain, optim

EVERY = [
    *(value for value in vars(optim).values() if isinstance(value, type)),
    *(AroundTorchs, AroundOurs, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad),
]
EVERY = [cls for cls in EVERY if cls not in (optim.Optimizer, optim.ScheduleFree)]


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_an_optimizer_at_work_looks_right_and_is_not_changed(cls):
    model = torch.nn.Linear(3, 2)
    optimizer = cls(model.parameters())
    if getattr(optimizer, "averages", False):
        attach(model, optimizer)
    assert "Steps made: none" in explain(optimizer)
    train(optimizer, range(3))
    before = [p.detach().clone() for p in model.parameters()]
    text = explain(optimizer)
    assert text.endswith("Nothing looks wrong.")
    assert len(text.splitlines()) <= 12
    assert type(optimizer).__name__ in text
    assert "2 tensors (8 weights) in 1 group." in text
    assert all(map(torch.equal, before, model.parameters()))


def trained(cls, steps=3, **options):
    params = weights()
    optimizer = cls(params, **options)
    train(optimizer, range(steps))
    return optimizer, params


def at_training_weights():
    return trained(optim.SelfTune)[0]


def at_evaluation_weights():
    optimizer, _ = trained(optim.ScheduleFreeAdamW)
    optimizer.eval()
    return optimizer


def decayed():
    optimizer, _ = trained(torch.optim.AdamW)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=3)
    for step in range(3):
        train(optimizer, [step])
        scheduler.step()
    return optimizer


def decaying_around_an_average():
    params = weights()
    optimizer = optim.ScheduleFreeSGD(params)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.2, total_iters=2)
    for step in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimizer says it too
            train(optimizer, [step])
            scheduler.step()
    return optimizer


def frozen():
    return optim.NAdamW(weights(), lr=0.0)


def skipped():
    optimizer, params = trained(optim.DAdaptAdam)
    params[0].grad.fill_(math.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        take_step(optimizer)
    return optimizer


def never_stepped():
    params = weights()
    optimizer = optim.DoWG([("weight", params[0]), ("bias", params[1])])
    for _ in range(2):
        params[0].grad = torch.ones_like(params[0])
        optimizer.step()
    return optimizer


def without_gradients():
    optimizer = optim.LDoG(weights())
    Monitor(optimizer, every=1)
    optimizer.step()
    return optimizer


def idle():
    optimizer = optim.SelfTune(weights())
    for _ in range(3):
        optimizer.step()
    return optimizer


def zero_gradients():
    optimizer, params = trained(torch.optim.SGD)
    for p in params:
        p.grad.zero_()
    return optimizer


def spoilt():
    optimizer, params = trained(torch.optim.SGD)
    params[0].data.fill_(math.nan)
    return optimizer


def still():
    params = weights()
    optimizer = optim.Prodigy(params)
    for _ in range(100):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for p in params:
        p.grad = torch.ones_like(p)
    return optimizer


def stuck_nearby():
    params = weights()
    optimizer = optim.DAdaptSGD(params)
    Monitor(optimizer, every=10)
    optimizer.param_groups[0]["d"] = 2e-6
    for _ in range(120):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    return optimizer


def small_lr():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optim.Prodigy(weights(), lr=1e-3)


def huge_steps():
    params = weights()
    optimizer = torch.optim.SGD(params, lr=3.0)
    Monitor(optimizer, every=1)
    train(optimizer, [0])
    return optimizer


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (at_training_weights, "at the training weights and not attached"),
        (at_evaluation_weights, "call optimizer.train() before the next step"),
        (decayed, "the schedule's lr is zero"),
        (decaying_around_an_average, "a schedule has lowered lr from 1 to 0.2"),
        (frozen, "lr is 0, which freezes its weights"),
        (skipped, "1 of 4 steps were skipped"),
        (skipped, "1 of 4 gradients are not finite"),
        (never_stepped, "1 of 2 parameters never stepped"),
        (never_stepped, "bias. Are they part of the loss?"),
        (without_gradients, "no parameter had a gradient at step 1"),
        (idle, "step() was called 3 times, and no parameter had a gradient"),
        (zero_gradients, "all gradients are zero"),
        (spoilt, "1 of 4 parameters have values that are not finite"),
        (still, "d has not moved from d0 = 1e-06 in 100 steps"),
        (stuck_nearby, "d has stayed at 2e-06, near d0, since step 10"),
        (small_lr, "lr is 0.001, but it multiplies the step size that is found"),
        (huge_steps, "of their norm, too much"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_looks_wrong_is_said(make, said):
    text = explain(make())
    assert said in text
    assert "What looks wrong:" in text


def test_a_run_that_goes_well_has_no_remark_on_d():
    optimizer, _ = trained(optim.Prodigy, steps=150)
    assert "d has" not in explain(optimizer)


def test_at_most_three_parameters_that_are_left_out_are_named_and_no_frozen_ones():
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(4)))
    model[0].weight.requires_grad_(False)
    optimizer = optim.ScheduleFreeAdamW(model[3].parameters())
    attach(model, optimizer)
    assert "5 parameters of the model with gradients: 0.bias, 1.weight, 1.bias, ..." in explain(
        optimizer
    )


def test_a_parameter_that_another_attached_optimizer_holds_is_not_said_to_be_left_out():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    one, other = (optim.ScheduleFreeAdamW(part.parameters()) for part in model)
    attach(model, one)
    assert "holds 2 parameters of the model with gradients: 1.weight, 1.bias. " in explain(one)
    attach(model, other)
    assert explain(one).endswith("Nothing looks wrong.")


@pytest.mark.parametrize("cls", [optim.SelfTune, optim.AdamW])
@pytest.mark.parametrize("kept", [True, False])
def test_statistics_of_batch_norm_are_a_fact_where_an_average_is_evaluated(cls, kept):
    norm = torch.nn.BatchNorm1d(2, track_running_stats=kept)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), norm)
    optimizer = cls(model.parameters())
    attach(model, optimizer)
    text = explain(optimizer)
    said = "recalibrate_batch_norm(model, batches) before evaluating" in text
    assert said == (kept and cls is optim.SelfTune)
    assert text.endswith("Nothing looks wrong.")


def test_something_else_than_an_optimizer_is_refused():
    with pytest.raises(ValueError, match="expected a torch optimizer, got a Linear"):
        explain(torch.nn.Linear(1, 1))
