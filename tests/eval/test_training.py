from contextlib import contextmanager
from dataclasses import replace
from math import isnan

import pytest
import torch
from builds import adam, diverging, sgd, sgd_evaluated_where_it_trains
from late_flights import LATE_FLIGHTS

from eval import clock
from eval.training import Seeds, train

SEEDS = Seeds.of("late_flights", study=0, seed=0)


def evaluations(build=sgd, workload=LATE_FLIGHTS, seeds=SEEDS, steps=10):
    return list(train(workload, build, seeds, steps, "cpu"))


def test_a_run_is_evaluated_every_period_and_after_its_last_step():
    assert LATE_FLIGHTS.eval_period == 2
    assert [e.step for e in evaluations(steps=5)] == [2, 4, 5]


def test_a_workload_is_long_enough_for_its_evaluations():
    with pytest.raises(ValueError, match=r"late_flights: step_hint must be at least 20.*got 19"):
        replace(LATE_FLIGHTS, step_hint=19)
    assert replace(LATE_FLIGHTS, step_hint=20).eval_period == 1


@pytest.mark.parametrize("name", ["", "a/b", "..", "two words"])
def test_a_workloads_name_is_fit_for_a_file(name):
    with pytest.raises(ValueError, match="letters, digits"):
        replace(LATE_FLIGHTS, name=name)


def test_training_lowers_the_loss():
    run = evaluations(adam, steps=120)
    assert run[-1].loss < run[0].loss
    assert run[-1].validation < run[0].validation


def test_the_same_seeds_give_the_same_numbers():
    one, other = evaluations(), evaluations()
    assert [(e.loss, e.validation, e.step) for e in one] == [
        (e.loss, e.validation, e.step) for e in other
    ]


def test_every_study_seed_and_workload_has_seeds_of_its_own():
    several = {
        Seeds.of(workload, study, seed)
        for workload in ("late_flights", "early_flights")
        for study in range(3)
        for seed in range(3)
    }
    assert len({s.model for s in several}) == len({s.data for s in several}) == 18
    assert SEEDS.model != SEEDS.data != SEEDS.recalibration


def test_methods_share_initialisation_and_data_order():
    def seen_by(build):
        seen = []

        def loss(model, batch):
            if not seen:
                seen.extend(p.detach().clone() for p in model.parameters())
            seen.extend(batch)
            return LATE_FLIGHTS.loss(model, batch)

        evaluations(build, replace(LATE_FLIGHTS, loss=loss))
        return seen

    by_sgd, by_adam = seen_by(sgd), seen_by(adam)
    assert len(by_sgd) == 6 + 2 * 10
    assert all(map(torch.equal, by_sgd, by_adam))


def test_another_study_has_another_initialisation():
    other = evaluations(seeds=Seeds.of("late_flights", study=1, seed=0))
    assert other[0].loss != evaluations()[0].loss


def test_evaluation_weights_are_evaluated_with_their_own_batch_norm_statistics():
    plain, recalibrated = evaluations(), evaluations(sgd_evaluated_where_it_trains)
    assert recalibrated[0].validation != plain[0].validation


def test_evaluating_elsewhere_leaves_training_as_it_was():
    losses = [e.loss for e in evaluations()]
    assert [e.loss for e in evaluations(sgd_evaluated_where_it_trains)] == losses


def test_batch_norm_statistics_come_back_after_an_evaluation():
    kept = []

    def build(model, num_steps):
        @contextmanager
        def weights():
            kept.append(model[1].running_mean.clone())
            yield

        return (*sgd(model, num_steps)[:2], weights)

    def without_training(model, batch):
        return LATE_FLIGHTS.loss(model.eval(), batch)

    evaluations(build, replace(LATE_FLIGHTS, loss=without_training))
    assert all(torch.equal(mean, torch.zeros(16)) for mean in kept)
    assert len(kept) == 5


def test_batch_norm_statistics_come_back_after_an_error_too():
    def statistics_after_an_error(build):
        models = []

        def remembered(model, num_steps):
            models.append(model)
            return build(model, num_steps)

        run = train(LATE_FLIGHTS, remembered, SEEDS, 4, "cpu")
        next(run)
        with pytest.raises(KeyboardInterrupt):
            run.throw(KeyboardInterrupt())
        return models[0][1].running_mean

    elsewhere = statistics_after_an_error(sgd_evaluated_where_it_trains)
    assert torch.equal(elsewhere, statistics_after_an_error(sgd))


def test_the_model_holds_the_evaluation_weights_while_the_caller_looks():
    def build(model, num_steps):
        @contextmanager
        def weights():
            before = [p.detach().clone() for p in model.parameters()]
            for p in model.parameters():
                p.detach().zero_()
            yield
            for p, value in zip(model.parameters(), before, strict=True):
                p.detach().copy_(value)

        return (*sgd(model, num_steps)[:2], weights)

    chance = torch.tensor(2.0).log().item()  # the log loss of saying 1/2 every time
    for evaluation in train(LATE_FLIGHTS, build, SEEDS, 4, "cpu"):
        assert evaluation.validation == pytest.approx(chance)
        assert evaluation.test() == pytest.approx(chance)
        assert evaluation.loss != pytest.approx(chance, rel=1e-3)


def test_the_clock_counts_training_and_preparation_but_not_evaluation(monkeypatch):
    now = 0.0

    def take(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(clock.time, "process_time", lambda: now)

    def loss(model, batch):
        if model.training:
            take(1)
        return LATE_FLIGHTS.loss(model, batch)

    def evaluate(model, split):
        take(1000)
        return LATE_FLIGHTS.evaluate(model, split)

    def build(model, num_steps):
        @contextmanager
        def weights():
            take(10)
            yield
            take(100)

        take(10_000)
        return (*sgd(model, num_steps)[:2], weights)

    workload = replace(LATE_FLIGHTS, loss=loss, evaluate=evaluate)
    run = []
    for evaluation in train(workload, build, SEEDS, 4, "cpu"):
        run.append(evaluation)
        evaluation.test()
    assert [e.seconds for e in run] == [2 + 10, 2 + 10 + 100 + 2 + 10]
    assert [e.evaluation_seconds for e in run] == [1000, 2000]


def test_a_loss_that_is_not_finite_ends_the_run():
    *_, last = evaluations(diverging)
    assert last.diverged
    assert last.step < 10
    assert isnan(last.validation)
    assert isnan(last.test())


def test_the_schedule_moves_once_a_step():
    rates = []

    def build(model, num_steps):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        rates.append(optimizer.param_groups[0])
        return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, num_steps), None

    evaluations(build, steps=10)
    assert rates[0]["lr"] == pytest.approx(1 - 10 / LATE_FLIGHTS.step_hint)


def test_the_optimizer_is_told_the_loss_and_nothing_is_computed_again():
    told, computed = [], []

    class Curious(torch.optim.SGD):
        def step(self, closure):
            told.append(closure())
            return super().step()

    def loss(model, batch):
        computed.append(LATE_FLIGHTS.loss(model, batch))
        return computed[-1]

    def build(model, num_steps):
        return Curious(model.parameters(), lr=0.1), None, None

    evaluations(build, replace(LATE_FLIGHTS, loss=loss))
    assert len(told) == 10
    pairs = zip(told, computed, strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)
