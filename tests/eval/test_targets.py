import json
from dataclasses import replace
from functools import partial

import drive
import pytest
import torch
from late_flights import LATE_FLIGHTS
from torch import nn

from eval import set_targets
from eval.results import Results, read
from eval.targets import PROTOCOL, Sizes, log, protocol, target
from eval.targets.calibration import calibrated
from eval.targets.search import (
    WARMUPS,
    configurations,
    search_trials,
    trials_with_new_seeds,
)
from eval.targets.summary import summary
from eval.trial import record
from selftune.optim import NAdamW

CONFIGURATIONS = configurations(PROTOCOL.configurations)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "FOLDER", tmp_path)
    return tmp_path


def finished(trial, best, final=None, test=0.5):
    metrics = {"best_validation": best, "final_validation": best if final is None else final}
    return record(trial, [], "done") | metrics | {"test": test}


def complete_log(workload=LATE_FLIGHTS):
    """Configuration i ends at 1 + i; number 3, the best, reaches 0.5 and again 0.6 to 1."""
    search = [finished(trial, best=1.0 + trial.study) for trial in search_trials(workload)]
    search[3]["best_validation"] = 0.5
    again = [
        finished(trial, best=0.6 + 0.1 * index, test=0.7 + 0.1 * index)
        for index, trial in enumerate(trials_with_new_seeds(workload, search[3]))
    ]
    return search + again


def write(records, workload=LATE_FLIGHTS):
    with Results(log(workload)) as results:
        for one in records:
            results.append(one)


def test_the_target_is_the_median_of_the_best_configurations_new_seeds():
    write(complete_log())
    assert target(LATE_FLIGHTS) == pytest.approx(0.8)


def test_a_diverged_run_never_wins():
    records = complete_log()
    records[3] |= {"outcome": "failed", "reason": "diverged at step 20"}
    write(records)
    with pytest.raises(ValueError, match="32 of 32 configurations and 0 of 5 seeds"):
        target(LATE_FLIGHTS)  # configuration 0 is the best now, and was not run again


def test_the_best_of_a_higher_metric_is_the_highest():
    higher = replace(LATE_FLIGHTS.metric, higher_is_better=True)
    workload = replace(LATE_FLIGHTS, metric=higher)
    search = [finished(t, 1.0 + t.study) for t in search_trials(workload)]
    again = [finished(trial, 7.0) for trial in trials_with_new_seeds(workload, search[-1])]
    again[0] |= {"outcome": "failed", "best_validation": 40.0}
    write(search + again)
    assert target(workload) == 7.0


def test_the_target_of_a_workload_that_must_hold_it_is_made_of_last_metrics():
    """Number 3 is the best for a while, number 7 in the end."""
    workload = replace(LATE_FLIGHTS, must_hold_target=True)
    records = complete_log()[:32]
    for one in records:
        one["final_validation"] = 2.0
    records[7]["final_validation"] = 1.0
    records += [
        finished(trial, best=0.1, final=1.1 + 0.1 * index)
        for index, trial in enumerate(trials_with_new_seeds(workload, records[7]))
    ]
    write(records)
    assert target(workload) == pytest.approx(1.3)
    assert "last validation over seeds: 1.1 to 1.5, median 1.3" in summary(workload)


@pytest.mark.parametrize("lines", [0, 1, PROTOCOL.configurations, 32 + 5 - 1])
def test_an_incomplete_search_has_no_target(lines):
    write(complete_log()[:lines])
    with pytest.raises(ValueError, match=r"no target for late_flights.*eval\.set_targets") as no:
        target(LATE_FLIGHTS)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"step_hint": 80}, "step_hint 40, late_flights has 80"),
        ({"batch_size": 10}, "batch_size 50, late_flights has 10"),
        ({"dataset": "speech"}, "data '"),
        ({"metric": replace(LATE_FLIGHTS.metric, name="accuracy")}, "metric 'log loss'"),
    ],
)
def test_a_search_of_another_version_of_the_workload_is_refused(changed, difference):
    write(complete_log())
    with pytest.raises(ValueError, match=difference) as refusal:
        target(replace(LATE_FLIGHTS, **changed))
    assert "\n" not in str(refusal.value)


def test_configurations_fill_the_search_space():
    ranges = {
        "lr": (1e-4, 3e-2),
        "one_minus_beta1": (4e-3, 0.2),
        "one_minus_beta2": (1e-3, 0.1),
        "weight_decay": (5e-3, 1.0),
    }
    for name, (low, high) in ranges.items():
        values = [getattr(configuration, name) for configuration in CONFIGURATIONS]
        assert low <= min(values) < low * (high / low) ** 0.1
        assert low * (high / low) ** 0.9 < max(values) <= high
    assert {configuration.warmup for configuration in CONFIGURATIONS} == set(WARMUPS)


def test_a_longer_search_begins_with_the_shorter_one():
    assert configurations(50)[:32] == CONFIGURATIONS
    assert len(configurations(50)) == 50


def test_a_configuration_builds_the_calibrated_baseline():
    configuration = CONFIGURATIONS[0]
    model = nn.Linear(2, 2)
    optimizer, scheduler, weights = configuration(model, 100)
    assert isinstance(optimizer, NAdamW)
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 2  # all are decayed
    assert group["weight_decay"] == configuration.weight_decay
    assert 1 - group["betas"][0] == pytest.approx(configuration.one_minus_beta1)
    assert 1 - group["betas"][1] == pytest.approx(configuration.one_minus_beta2)
    assert weights is None
    assert scheduler is not None
    rates = []
    for _ in range(100):
        rates.append(group["lr"])
        model(torch.ones(2)).sum().backward()
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(configuration.lr)
    assert rates.index(max(rates)) == round(configuration.warmup * 100)
    assert group["lr"] == pytest.approx(0)


def test_every_run_of_a_search_has_a_seed_of_its_own():
    search = search_trials(LATE_FLIGHTS)
    again = trials_with_new_seeds(LATE_FLIGHTS, complete_log()[3])
    assert len({(trial.seed, trial.study) for trial in search + again}) == 37
    assert {trial.build for trial in again} == {CONFIGURATIONS[3]}


def test_the_summary_compares_configurations_with_seeds():
    records = complete_log()
    records[5] |= {"outcome": "failed", "reason": "diverged at step 2"}
    finals = iter([10.0, 20.0, 30.0, 40.0] + [25.0] * 27)
    for one in records[:32]:
        if one["outcome"] == "done":
            one["final_validation"] = next(finals)
    for one, final in zip(
        records[PROTOCOL.configurations :], [1.0, 2.0, 3.0, 4.0, 5.0], strict=True
    ):
        one["final_validation"] = final
    write(records)
    text = summary(LATE_FLIGHTS)
    assert "32 configurations, of which 1 failed; 5 seeds" in text
    assert "best validation over seeds: 0.6 to 1, median 0.8" in text
    assert "test over seeds: 0.7 to 1.1, median 0.9" in text
    # variance (15^2 + 5^2 + 5^2 + 15^2) / 30 over that of 1..5, 2.5; all quartiles are 25
    assert "2.58 (standard deviation), 0 (interquartile range)" in text
    assert str(CONFIGURATIONS[3]) in text


@pytest.fixture
def tiny_search(monkeypatch):
    """The command on the tests' workload."""
    monkeypatch.setattr(set_targets, "WORKLOADS", drive.WORKLOADS)
    monkeypatch.setattr(set_targets, "SUITES", drive.SUITES)


def test_the_command_searches_once_and_then_knows_the_target(tiny_search, monkeypatch, capsys):
    arguments = ["--workload", "late_flights", "--trials", "3", "--seeds", "2", "--jobs", "2"]
    assert set_targets.main(arguments) == 0
    records = read(log(LATE_FLIGHTS))
    assert len(records) == 3 + 2
    for one in records:
        assert one["outcome"] == "done"
        assert len(one["curve"]) == 20
        assert one["configuration"].keys() == {
            "lr",
            "one_minus_beta1",
            "one_minus_beta2",
            "weight_decay",
            "warmup",
        }
    again = sorted(one["best_validation"] for one in records[3:])
    assert target(LATE_FLIGHTS) == sum(again) / 2
    # the last line is lost; only its trial runs again
    path = log(LATE_FLIGHTS)
    before = path.read_bytes()
    path.write_bytes(before[:-100])
    capsys.readouterr()
    assert set_targets.main(arguments) == 0
    assert "the last line was damaged" in capsys.readouterr().err
    repaired = read(path)
    assert repaired[:-1] == records[:-1]
    assert repaired[-1] | {"seconds": 0} == records[-1] | {"seconds": 0}


def test_the_command_reports_without_running(tiny_search, capsys):
    assert set_targets.main(["--report"]) == 1
    captured = capsys.readouterr()
    assert "0 configurations" in captured.out
    assert "no target for late_flights" in captured.err
    assert not log(LATE_FLIGHTS).exists()


def test_the_command_refuses_a_search_that_does_not_say_its_configurations(tiny_search, capsys):
    first = finished(search_trials(LATE_FLIGHTS)[0], 1.0)
    del first["configuration"]
    write([first])
    with pytest.raises(SystemExit, match="2"):
        set_targets.main(["--trials", "3"])
    assert "its configuration 0 is None, not" in capsys.readouterr().err


def test_the_command_refuses_another_search(tiny_search, capsys):
    first = finished(search_trials(LATE_FLIGHTS)[0], 1.0)
    first["configuration"]["lr"] = 1.0
    write([first])
    content = log(LATE_FLIGHTS).read_bytes()
    with pytest.raises(SystemExit, match="2"):
        set_targets.main(["--trials", "3"])
    assert "holds another search" in capsys.readouterr().err
    assert log(LATE_FLIGHTS).read_bytes() == content


def test_the_command_names_the_nearest_workload(tiny_search, capsys):
    with pytest.raises(SystemExit, match="2"):
        set_targets.main(["--workload", "late_flight"])
    error = capsys.readouterr().err
    assert "did you mean late_flights?" in error
    assert error.count("\n") == 1


def test_the_calibrated_configuration_has_the_best_mean_rank():
    """Number 5 is second everywhere; 3 wins here, diverges there."""
    higher = replace(LATE_FLIGHTS.metric, name="accuracy", higher_is_better=True)
    other = replace(LATE_FLIGHTS, name="other", metric=higher)
    search = complete_log()[:32]
    search[5]["best_validation"] = 0.6
    write(search)
    search = [finished(trial, best=0.1) for trial in search_trials(other)]
    search[3] |= {"outcome": "failed", "best_validation": 0.99}
    search[5]["best_validation"], search[9]["best_validation"] = 0.8, 0.9
    write(search, other)
    assert calibrated([LATE_FLIGHTS, other]) == (CONFIGURATIONS[5], 2.0)


def test_logs_in_the_repository_are_whole(monkeypatch):
    monkeypatch.undo()
    for path in protocol.FOLDER.glob("*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        assert all(line.endswith("\n") and json.loads(line) for line in lines)


def test_a_search_of_another_size_gives_a_target_that_says_so():
    small = Sizes(configurations=4, seeds=1)
    search = [finished(t, best=1.0 + t.study) for t in search_trials(LATE_FLIGHTS, small)]
    again = trials_with_new_seeds(LATE_FLIGHTS, search[0], small)
    write(search)
    with pytest.raises(ValueError, match=r"4 of 4 configurations and 0 of 1 seeds.*--trials 4"):
        target(LATE_FLIGHTS)
    write([finished(trial, best=0.25) for trial in again])
    assert target(LATE_FLIGHTS) == 0.25
    assert "a search of 4 configurations and 1 seed, where the protocol has 32" in summary(
        LATE_FLIGHTS
    )


def test_a_longer_search_is_incomplete_until_it_has_ended():
    small = Sizes(configurations=4, seeds=1)
    search = [finished(t, best=1.0 + t.study) for t in search_trials(LATE_FLIGHTS, small)]
    again = trials_with_new_seeds(LATE_FLIGHTS, search[0], small)
    write(search + [finished(trial, best=0.25) for trial in again])
    write([finished(search_trials(LATE_FLIGHTS)[4], best=9.0)])
    with pytest.raises(ValueError, match="5 of 32 configurations and 1 of 5 seeds"):
        target(LATE_FLIGHTS)


def test_a_search_of_another_model_is_refused():
    write(complete_log())
    with pytest.raises(ValueError, match="was made with code '"):
        target(replace(LATE_FLIGHTS, build_model=partial(nn.Linear, 13, 1)))
