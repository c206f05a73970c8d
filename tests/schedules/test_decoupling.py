"""Decoupling on a simulated scale-invariant problem, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from selftune.optim import ScheduleFree
from selftune.refinement.decoupling import modelled_weight_norm
from selftune.schedules import (
    GradientNorms,
    NormLog,
    Schedule,
    ScheduleLR,
    constant,
    cosine,
    linear,
    refine,
)

T, LR, WEIGHT_DECAY = 3000, 0.05, 0.1  # 30 times the lag of the weight norm, 1 / (2 wd lr)


def simulate(schedule: Schedule, sgd: bool = False, start: float = 1.0) -> NormLog:
    """Norms on a problem whose gradient is 1 / |x|, with updates orthogonal to x.

    start: the squared norm at first, relative to where the peak lr keeps it.
    """
    lrs = LR * schedule.factors()
    r = (LR / (2 * WEIGHT_DECAY)) ** (1 / 2 if sgd else 1) * start
    squared = np.empty(T)
    for t, lr in enumerate(lrs):
        squared[t] = r
        r = (1 - 2 * WEIGHT_DECAY * lr) * r + lr**2 * (1 / r if sgd else 1)
    weight = np.sqrt(squared)
    update = 1 / squared if sgd else 1 / weight
    norms = {"l2": 1 / weight, "l1": 1 / weight, "weight": weight, "update": update}
    name = "SGD" if sgd else "Adam"
    return NormLog(np.arange(T), norms, lrs=lrs, weight_decay=WEIGHT_DECAY, optimizer=name)


def distance(one: Schedule, other: Schedule) -> float:
    return float(np.abs(one.factors() - other.factors()).mean())


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", [constant(T), linear(T), cosine(T)])
def test_with_recorded_weight_norms_any_schedule_refines_to_linear_decay(schedule, kind):
    refined = refine(simulate(schedule, sgd=kind == "sgd"), kind=kind)
    assert refined.diagnostics.decouple == "weight_norm"
    assert distance(refined, linear(T)) < 1e-12


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", [constant(T), linear(T), cosine(T)])
def test_with_the_model_any_schedule_refines_to_linear_decay(schedule, kind):
    log = simulate(schedule, sgd=kind == "sgd")
    refined = refine(
        log.norms["l2"], lrs=log.lrs, weight_decay=WEIGHT_DECAY, kind=kind, decouple="model"
    )
    assert distance(refined, linear(T)) < 0.01


@pytest.mark.parametrize("sgd", [True, False])
@pytest.mark.parametrize("schedule", [linear(T), cosine(T)])
def test_updates_are_decoupled_twice_where_they_are_gradients_and_once_elsewhere(schedule, sgd):
    log = simulate(schedule, sgd)
    recorded = refine(log)
    assert recorded.diagnostics.kind == "update"
    assert distance(recorded, linear(T)) < 1e-12
    assert distance(refine(log, decouple="model"), linear(T)) < 0.01


@pytest.mark.parametrize("name", [None, "ScheduleFree"])
def test_an_update_that_is_the_gradient_is_seen_whatever_the_optimizers_name(name):
    log = replace(simulate(linear(T), sgd=True), optimizer=name)
    log.norms["update"][::20] *= -1
    assert distance(refine(log), linear(T)) < 1e-3


@pytest.mark.parametrize("name", ["SGD", "SGDScheduleFree", "DAdaptSGD", "DoG", "DoWG", "LDoG"])
def test_optimizers_that_step_along_the_gradient_are_known_by_their_names(name):
    log = NormLog(np.arange(10), {"l2": np.ones(10), "l1": np.ones(10)}, optimizer=name)
    assert refine(log).diagnostics.kind == "sgd"
    assert refine(replace(log, optimizer="AdamW")).diagnostics.kind == "adam"


@pytest.mark.filterwarnings("ignore:ScheduleFree averages in the place of a decaying schedule")
@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.SGD(p, lr=LR, weight_decay=WEIGHT_DECAY),
        lambda p: torch.optim.SGD(p, lr=LR / 10, momentum=0.9, weight_decay=WEIGHT_DECAY),
        lambda p: ScheduleFree(torch.optim.SGD(p, lr=LR, weight_decay=WEIGHT_DECAY)),
    ],
    ids=["sgd", "momentum", "schedule-free"],
)
def test_recorded_updates_of_sgd_behind_normalisation_refine_to_linear_decay(build):
    # A linear loss of w / |w|: gradients are orthogonal to w, and as 1 / |w|.
    w = torch.full((5000,), 0.1, requires_grad=True)
    optimizer, generator = build([w]), torch.Generator().manual_seed(0)
    scheduler = ScheduleLR(optimizer, linear(1500))
    with GradientNorms(optimizer, update=True) as recorder:
        for _ in range(1500):
            optimizer.zero_grad()
            (w @ torch.randn(5000, generator=generator) / w.norm()).backward()
            optimizer.step()
            scheduler.step()
    assert distance(refine(recorder.log), linear(1500)) < 0.015  # undone once: 0.14


@pytest.mark.parametrize("schedule", [linear(T), cosine(T)])
def test_plain_refinement_echoes_the_schedule_that_recorded_the_norms(schedule):
    refined = refine(simulate(schedule), kind="adam", decouple="none")
    assert distance(refined, linear(T)) > 0.05
    assert any("echoes" in warning for warning in refined.diagnostics.warnings)


def test_decoupled_refinement_settles_where_plain_refinement_grows_steeper():
    halves = {}
    for decouple in ("auto", "none"):
        schedule: Schedule = linear(T)
        halves[decouple] = []
        for _ in range(4):
            schedule = refine(simulate(schedule), kind="adam", decouple=decouple)
            halves[decouple].append(schedule(T // 2))
    assert halves["auto"] == pytest.approx([0.5] * 4, abs=1e-9)
    assert halves["none"] == sorted(halves["none"], reverse=True)
    assert halves["none"][-1] < 0.8 * halves["none"][0] < 0.3


def test_the_model_of_sparse_records_is_that_of_all_steps():
    log = simulate(cosine(T))
    assert log.lrs is not None
    few = NormLog(log.steps[::10], {}, log.lrs[::10], WEIGHT_DECAY, total_steps=T)
    modelled = modelled_weight_norm(few, np.ones(T // 10))
    assert modelled / modelled[0] == pytest.approx(
        log.norms["weight"][::10] / log.norms["weight"][0], rel=0.02
    )


def test_an_lr_of_zero_leaves_the_weight_norm_alone():
    lrs = np.array([0.1, 0.1, 0.0, 0.0])
    log = NormLog(np.arange(4) * 100, {}, lrs, WEIGHT_DECAY)
    norms = modelled_weight_norm(log, np.ones(4))
    assert np.isfinite(norms).all()
    assert norms[2] == norms[3]


def test_a_start_below_the_modelled_norm_gives_a_slow_beginning_not_a_fast_one():
    refined = refine(
        (log := simulate(constant(T), start=0.25)).norms["l2"],
        lrs=log.lrs,
        weight_decay=WEIGHT_DECAY,
        kind="adam",
    )
    assert refined.diagnostics.decouple == "model"
    assert refined(0) < 1
    assert refined(T // 2) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("norms", "lrs", "weight_decay", "expected"),
    [
        (("l2", "weight"), True, 0.1, "weight_norm"),
        (("l2", "weight"), False, None, "weight_norm"),
        (("l2",), True, 0.1, "model"),
        (("l2",), True, None, "none"),
        (("l2",), False, 0.1, "none"),
        (("l2", "weight"), True, 0.0, "none"),
    ],
)
def test_auto_takes_the_best_that_the_log_allows(norms, lrs, weight_decay, expected):
    log = NormLog(
        np.arange(10),
        {name: np.ones(10) for name in norms},
        lrs=np.full(10, 0.1) if lrs else None,
        weight_decay=weight_decay,
    )
    assert refine(log).diagnostics.decouple == expected


def test_forced_decoupling_works_without_weight_decay_too():
    log = simulate(linear(T))
    log = NormLog(log.steps, log.norms, log.lrs, weight_decay=0.0)
    assert refine(log, kind="adam").diagnostics.decouple == "none"
    assert distance(refine(log, kind="adam", decouple="weight_norm"), linear(T)) < 1e-12
