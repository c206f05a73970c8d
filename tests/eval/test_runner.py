import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from builds import (
    adam,
    crashing,
    diverging,
    killed,
    killed_once,
    lingering,
    raising,
    sgd,
    vanishing,
)
from trials import TRIAL, comparable

from eval.runner import run

SHORT = replace(TRIAL, budget=0.5)


def records_of(trials, jobs, watch=lambda trial, step, metric: None, lost=lambda *_: None):
    records = []
    run(trials, jobs, records.append, watch, lost)
    return {record["method"]: record for record in records}


@pytest.fixture(scope="module")
def a_bad_day():
    """Seven trials of which four fail, each in another way, and one is killed."""
    builds = (killed, raising, vanishing, crashing, diverging, sgd, adam)
    seen, lost = [], []
    trials = [replace(SHORT, method=build.__name__, build=build) for build in builds]
    records = records_of(
        trials,
        2,
        lambda trial, step, metric: seen.append((trial, step)),
        lambda trial, reason, again: lost.append((trial.method, reason, again)),
    )
    return records, seen, lost


def test_failures_of_every_kind_are_recorded_while_the_others_go_on(a_bad_day):
    records, *_ = a_bad_day
    assert {name: record["reason"] for name, record in records.items()} == {
        "raising": "RuntimeError: the gradient is bent",
        "vanishing": "exited with status 3 before it was done",
        "crashing": "killed by signal 11",
        "diverging": "diverged at step 2",
        "sgd": None,
        "adam": None,
    }
    failed = {name for name, record in records.items() if record["outcome"] == "failed"}
    assert failed == {"raising", "vanishing", "crashing", "diverging"}


def test_a_killed_trial_is_run_once_more_after_all_others_and_never_recorded(a_bad_day):
    records, seen, lost = a_bad_day
    reason = "killed by signal 9 (out of memory?)"
    assert lost == [("killed", reason, True), ("killed", reason, False)]
    assert "killed" not in records
    methods = [trial.method for trial, _ in seen]
    assert methods[-2:] == ["killed", "killed"]
    assert methods.count("killed") == 4  # two evaluations each time


def test_a_trial_that_was_killed_once_has_the_record_of_an_undisturbed_one(a_bad_day, tmp_path):
    records, *_ = a_bad_day
    build = partial(killed_once, str(tmp_path / "mark"))
    lost = []
    trial = replace(SHORT, method="sgd", build=build)
    again = records_of([trial], 1, lost=lambda *what: lost.append(what))
    assert [what[2] for what in lost] == [True]
    assert comparable(again["sgd"]) == comparable(records["sgd"])


def test_the_record_of_a_lost_process_says_how_far_it_got(a_bad_day):
    records, *_ = a_bad_day
    assert records["crashing"]["steps"] == records["vanishing"]["steps"] == 4
    # The groups' numbers along the run are lost with the process that collected them.
    assert records["crashing"].keys() == records["sgd"].keys() - {"param_groups"}


def test_the_watcher_is_told_every_step_of_every_trial(a_bad_day):
    _, seen, _ = a_bad_day
    assert [step for trial, step in seen if trial.method == "sgd"] == list(range(2, 21, 2))


def test_records_do_not_depend_on_how_many_run_at_a_time(a_bad_day):
    records, *_ = a_bad_day
    trials = [replace(SHORT, method=b.__name__, build=b) for b in (adam, raising)]
    for name, record in records_of(trials, 1).items():
        assert comparable(record) == comparable(records[name])


def test_a_method_that_keeps_its_process_alive_does_not_keep_the_run_from_ending():
    started = time.monotonic()
    records = records_of([replace(SHORT, method="lingering", build=lingering)], 1)
    assert records["lingering"]["outcome"] == "done"
    assert time.monotonic() - started < 60


def test_children_end_when_their_parent_is_killed(tmp_path):
    numbers = tmp_path / "numbers"
    script = tmp_path / "parent.py"
    script.write_text(
        "from dataclasses import replace\n"
        "from builds import endless\n"
        "from trials import TRIAL\n"
        "from eval.runner import run\n"
        "if __name__ == '__main__':\n"
        "    trials = [replace(TRIAL, build=endless, study=study) for study in range(2)]\n"
        "    run(trials, 2, print)\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ
        | {"PROCESS_NUMBERS": str(numbers), "PYTHONPATH": f"{root}:{Path(__file__).parent}"},
    )
    try:
        _wait_until(lambda: numbers.exists() and len(numbers.read_text().split()) == 2)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    children = list(map(int, numbers.read_text().split()))
    _wait_until(lambda: not any(map(_alive, children)))


def _wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.05)


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # an orphan may stay on as a zombie
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
