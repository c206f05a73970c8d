import json
import pickle
from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from builds import diverging, exiting, full, full_torch, moving_at_zero, raising, sgd, sgd_to_zero
from late_flights import LATE_FLIGHTS
from torch.optim.lr_scheduler import LambdaLR
from trials import TRIAL, comparable

from eval.data import manifest
from eval.fingerprint import fingerprint
from eval.methods import METHODS
from eval.trial import Interrupted, checksum, run_trial


def test_a_trial_without_a_target_uses_its_whole_budget():
    record = run_trial(TRIAL)
    assert record["outcome"] == "done"
    assert record["steps_to_target"] is None
    assert record["seconds"]["to_target"] is None
    assert record["steps"] == 3 * LATE_FLIGHTS.step_hint
    assert [step for step, _, _ in record["curve"]] == list(range(2, 121, 2))
    metrics = [metric for _, _, metric in record["curve"]]
    assert record["best_validation"] == min(metrics)
    assert record["final_validation"] == metrics[-1]
    assert record["test"] != metrics[-1]


def test_a_trial_stops_at_the_first_evaluation_that_reaches_the_target():
    whole = run_trial(TRIAL)
    step, _, target = whole["curve"][30]
    record = run_trial(replace(TRIAL, target=target))
    assert record["outcome"] == "hit"
    assert record["steps_to_target"] == record["steps"] <= step
    first = next(step for step, _, metric in whole["curve"] if metric <= target)
    assert record["steps"] == first
    assert record["seconds"]["to_target"] == record["seconds"]["training"] > 0
    assert record["test"] is not None


def that_must_hold_target(metrics, target=1.0, budget=2.0):
    """A trial of a workload that must hold its target: 20 evaluations, step_hint of 40 steps."""
    values = iter(metrics)

    def evaluate(model, split):
        return next(values, 0.0)

    workload = replace(LATE_FLIGHTS, evaluate=evaluate, must_hold_target=True)
    return run_trial(replace(TRIAL, workload=workload, target=target, budget=budget))


def test_at_the_end_a_target_reached_and_kept_counts_from_when_it_was_reached():
    record = that_must_hold_target([2.0] * 12 + [1.0] * 8)
    assert record["outcome"] == "hit"
    assert record["steps_to_target"] == 26
    assert record["steps"] == 40  # it trained on, to see whether it holds
    assert 0 < record["seconds"]["to_target"] < record["seconds"]["training"]


def test_at_the_end_a_target_reached_and_lost_does_not_count():
    record = that_must_hold_target([0.5] * 19 + [1.1] * 21)
    assert record["outcome"] == "miss"
    assert record["steps_to_target"] is None
    assert record["best_validation"] == 0.5
    assert record["final_validation"] == 1.1


def test_at_the_end_a_target_may_be_reached_after_step_hint():
    record = that_must_hold_target([0.5] * 10 + [2.0] * 15 + [1.0] * 15)
    assert record["steps_to_target"] == record["steps"] == 52


def test_at_the_end_of_a_shorter_budget_the_last_evaluation_decides():
    assert that_must_hold_target([2.0, 2.0, 1.0, 1.0], budget=0.2)["steps_to_target"] == 6
    assert that_must_hold_target([1.0, 1.0, 1.0, 2.0], budget=0.2)["outcome"] == "miss"


def test_the_record_has_the_checksums_of_all_data_that_the_workload_reads(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("1,2\n")
    of_file = sha256(b"1,2\n").hexdigest()[:16]
    flights = manifest()["flights"]["sha256"][:16]
    for dataset, expected in [
        ((), None),
        ("flights", flights),
        (own, of_file),
        (str(own), of_file),
        (("flights", own), f"{flights}+{of_file}"),
    ]:
        assert checksum(replace(LATE_FLIGHTS, dataset=dataset)) == expected


def test_a_folder_of_data_is_known_by_its_files_and_their_names(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a").write_text("1")
    workload = replace(LATE_FLIGHTS, dataset=folder)
    first = checksum(workload)
    (folder / "a").rename(folder / "b")
    second = checksum(workload)
    (folder / "b").write_text("22")
    assert len({first, second, checksum(workload)}) == 3


def test_data_that_are_nowhere_are_refused_with_the_names_of_the_bundled_ones():
    with pytest.raises(FileNotFoundError, match=r"'flihgts' is neither a file.*fashion, flights"):
        checksum(replace(LATE_FLIGHTS, dataset="flihgts"))


def test_a_higher_metric_is_reached_from_below():
    higher = replace(LATE_FLIGHTS.metric, higher_is_better=True)
    trial = replace(TRIAL, workload=replace(LATE_FLIGHTS, metric=higher), target=0.01)
    assert run_trial(trial)["steps_to_target"] == 2


def test_a_fractional_budget_ends_with_an_evaluation():
    record = run_trial(replace(TRIAL, budget=0.125))
    assert [step for step, _, _ in record["curve"]] == [2, 4, 5]


def test_a_trial_is_over_when_its_schedule_has_come_to_zero():
    record = run_trial(replace(TRIAL, build=sgd_to_zero, target=0.0))
    hint, period = LATE_FLIGHTS.step_hint, LATE_FLIGHTS.eval_period
    assert record["outcome"] == "miss"
    assert record["steps"] == hint + period
    assert record["reason"] == (
        f"at step {hint + period} its learning rates were zero and no weight moved any more"
    )
    assert record["test"] is not None


def test_weights_that_still_move_go_on_at_a_learning_rate_of_zero():
    record = run_trial(replace(TRIAL, build=moving_at_zero, target=0.0))
    assert record["steps"] == TRIAL.steps
    assert record["reason"] is None


def test_a_diverged_trial_is_failed_at_the_step_where_it_was_seen():
    record = run_trial(replace(TRIAL, build=diverging))
    assert record["outcome"] == "failed"
    assert record["reason"] == f"diverged at step {record['steps']}"
    assert record["curve"][-1] == [record["steps"], None, None]
    assert record["final_validation"] is record["test"] is None


@pytest.mark.parametrize(
    ("build", "reason"),
    [(raising, "RuntimeError: the gradient is bent"), (exiting, "SystemExit: enough")],
)
def test_a_trial_that_raises_keeps_its_reason_and_what_came_before(build, reason, capsys):
    record = run_trial(replace(TRIAL, build=build, target=0.0))
    assert record["outcome"] == "failed"
    assert record["reason"] == reason
    assert [step for step, _, _ in record["curve"]] == [2, 4]
    assert record["steps"] == 4
    assert "builds.py" in capsys.readouterr().err  # the traceback is there to be read


def test_a_metric_that_is_not_finite_is_a_miss_and_not_the_best():
    calls = []

    def evaluate(model, split):
        calls.append(split)
        return float("nan") if len(calls) == 1 else 1.0 / len(calls)

    trial = replace(
        TRIAL, workload=replace(LATE_FLIGHTS, evaluate=evaluate), budget=0.1, target=0.0
    )
    record = run_trial(trial)
    assert record["outcome"] == "miss"
    assert [metric for _, _, metric in record["curve"]] == [None, 1 / 2]
    assert record["best_validation"] == 1 / 2


def test_the_record_names_the_rules_it_was_made_under():
    assert run_trial(replace(TRIAL, target=0.1, budget=0.1))["rules"] == {
        "budget": 0.1,
        "seed": 0,
        "step_hint": 40,
        "batch_size": 50,
        "target": 0.1,
        "metric": "log loss",
        "higher_is_better": False,
        "data": manifest()["flights"]["sha256"][:16],
        "code": fingerprint(LATE_FLIGHTS),
        "method": "Adam, lr .01",
    }


def test_only_the_seconds_differ_between_two_runs():
    one, other = run_trial(TRIAL), run_trial(TRIAL)
    assert comparable(one) == comparable(other)
    assert one["seconds"] != other["seconds"]


def test_a_record_is_strict_json():
    record = run_trial(replace(TRIAL, build=diverging))
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_trial_tells_its_watcher_every_evaluation():
    told = []
    record = run_trial(replace(TRIAL, build=sgd), lambda step, metric: told.append([step, metric]))
    assert told == [[step, metric] for step, _, metric in record["curve"]]


def test_a_trial_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(TRIAL)) == TRIAL


def test_the_numbers_that_move_in_the_groups_are_recorded():
    record = run_trial(replace(TRIAL, build=METHODS["schedule_free_prodigy"].build, budget=0.5))
    curve = record["param_groups"]["d"]
    assert [step for step, _ in curve] == list(range(0, 21, 2))
    assert curve[0][1] == 1e-6 < curve[-1][1]
    assert record["param_groups"]["lr"][0][1] < record["param_groups"]["lr"][-1][1] == 1.0
    assert "eps" not in record["param_groups"]  # it stays what the configuration says


def test_a_group_whose_numbers_move_as_the_first_ones_do_is_left_out():
    def two_groups(model, num_steps):
        first, *others = model.parameters()
        groups = [{"params": [first]}, {"params": others[:1]}, {"params": others[1:], "lr": 0.5}]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        return optimizer, LambdaLR(optimizer, lambda step: 1 / (1 + step)), None

    moved = run_trial(replace(TRIAL, build=two_groups, budget=0.1))["param_groups"]
    assert moved == {
        "lr": [[0, 0.1], [2, 0.0333333], [4, 0.02]],
        "lr[2]": [[0, 0.5], [2, 0.166667], [4, 0.1]],
    }


def test_a_record_without_moving_numbers_has_none():
    assert "param_groups" not in run_trial(replace(TRIAL, budget=0.1))


@pytest.mark.parametrize("build", [full, full_torch])
def test_memory_that_ran_out_is_no_result(build):
    with pytest.raises(Interrupted, match=r"(?i)memory"):
        run_trial(replace(TRIAL, build=build))
