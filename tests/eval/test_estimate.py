import os
from dataclasses import replace
from math import inf

import pytest
from late_flights import LATE_FLIGHTS
from trials import TRIAL

from eval import cli
from eval.estimate import SECONDS_PER_STEP_HINT, SECONDS_TO_START, minutes, seconds
from eval.trial import record


def recorded(trial, steps, training, evaluation):
    times = {"training": training, "evaluation": evaluation}
    return record(trial, [], "done") | {"steps": steps, "seconds": times}


RECORDED = [
    recorded(replace(TRIAL, study=0), 60, training=5.0, evaluation=1.0),
    recorded(replace(TRIAL, study=1), 100, training=6.0, evaluation=4.0),
]


def test_a_recorded_method_takes_as_long_as_it_took():
    assert seconds(TRIAL, RECORDED) == SECONDS_TO_START + (6 + 10) / 2


def test_another_method_is_expected_to_use_its_whole_budget():
    rate = (6 / 60 + 10 / 100) / 2
    other = replace(TRIAL, method="sgd")
    assert seconds(other, RECORDED) == pytest.approx(SECONDS_TO_START + 120 * rate)
    short = replace(TRIAL, budget=1.5)
    assert seconds(short, RECORDED) == pytest.approx(SECONDS_TO_START + 60 * rate)


def test_an_unknown_workload_is_expected_to_take_what_workloads_are_sized_for():
    other = replace(TRIAL, workload=replace(LATE_FLIGHTS, name="early_flights"))
    assert seconds(other, RECORDED) == SECONDS_TO_START + 3 * SECONDS_PER_STEP_HINT


def test_a_trial_that_never_took_a_step_tells_nothing():
    failed = recorded(TRIAL, 0, training=0.0, evaluation=0.0)
    assert seconds(TRIAL, [failed]) == SECONDS_TO_START + 3 * SECONDS_PER_STEP_HINT


def test_trials_side_by_side_share_the_minutes():
    trials = [replace(TRIAL, study=study) for study in range(4)]
    one = seconds(TRIAL, RECORDED)
    assert minutes(trials, RECORDED, jobs=2) == pytest.approx(4 * one / 2 / 60)


# -- the cores that trials may take -----------------------------------------------------------


def a_group(tmp_path, line, **files):
    proc = tmp_path / "cgroup"
    proc.write_text(f"12:pids:/\n{line}\n")
    for place, text in files.items():
        path = tmp_path / "fs" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cli.quota(proc, tmp_path / "fs")


@pytest.mark.parametrize(
    ("line", "files", "granted"),
    [
        ("0::/", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/", {"cpu.max": "max 100000\n"}, inf),
        ("0::/", {}, inf),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, 4.0),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "200000 100000"}, 2.0),
        ("0::/host/says", {"cpu.max": "50000 100000"}, 0.5),
        (
            "4:cpu,cpuacct:/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, inf),
        ("4:cpuset:/", {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "1"}, inf),
    ],
)
def test_the_quota_of_a_container_is_read_wherever_it_is_set(tmp_path, line, files, granted):
    assert a_group(tmp_path, line, **files) == granted


@pytest.mark.parametrize(("granted", "expected"), [(0.5, 1), (1.5, 1), (2.0, 2)])
def test_cores_are_those_that_the_quota_grants_but_at_least_one(monkeypatch, granted, expected):
    monkeypatch.setattr(cli, "quota", lambda: granted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    assert cli.cores() == expected
    monkeypatch.setattr(cli, "quota", lambda: inf)
    assert cli.cores() == 8
