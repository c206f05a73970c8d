import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import drive
import pytest

from eval import self_tuning, set_targets
from eval.algoperf import generate, rebuild_published
from eval.baselines.__main__ import main as baselines_main
from eval.cli import cores
from eval.methods import METHODS
from eval.results import Results, read
from eval.targets import log, protocol
from eval.user_methods import own_method
from eval.user_workloads import chosen_workloads

HERE = Path(__file__).parent
MINE = """
from __future__ import annotations
from dataclasses import dataclass
from neighbour_of_mine import sgd

@dataclass
class Options:
    lr: float = 0.1

def fast(model, num_steps):
    return sgd(model, num_steps)

def broken(model, num_steps):
    raise KeyError("gamma")
"""


@pytest.fixture(autouse=True)
def tests_own(monkeypatch, tmp_path):
    """The command, knowing only the workload and methods of the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(self_tuning, "WORKLOADS", drive.WORKLOADS)
    monkeypatch.setattr(self_tuning, "SUITES", drive.SUITES)
    monkeypatch.setattr(self_tuning, "METHODS", drive.METHODS)
    monkeypatch.setattr(self_tuning.baselines, "read", list)
    monkeypatch.setattr(protocol, "FOLDER", tmp_path)
    drive.write_log(tmp_path, target=0.6)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A file with methods of one's own, and one that it imports, outside of Python's path."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "neighbour_of_mine.py").write_text((HERE / "builds.py").read_text())
    source = folder / "mine.py"
    source.write_text(MINE)
    return source


@pytest.fixture
def reported(monkeypatch):
    """What the report was called with."""
    calls = []
    monkeypatch.setattr(
        self_tuning, "report", lambda records, out, *_: calls.append((records, out))
    )
    return calls


@pytest.fixture
def nothing_runs(monkeypatch):
    def refuse(trials, results, jobs, retry_failed):
        raise AssertionError(f"{len(trials)} trials would have run")

    monkeypatch.setattr(self_tuning, "complete", refuse)


def refused(arguments, capsys):
    """The one line that a usage error ends with."""
    with pytest.raises(SystemExit) as end:
        self_tuning.main(["--method", "adam", *arguments])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("python -m eval.self_tuning: ")
    assert captured.err.count("\n") == 1
    return captured.err


def run(*arguments):
    return self_tuning.main([*arguments, "--budget", "1", "--jobs", "2", "--out", "runs/mine"])


def test_a_run_is_recorded_reported_and_not_repeated(reported, monkeypatch, capsys):
    # adam gets there and by_hand does not
    drive.write_log(protocol.FOLDER / "strict", target=0.505)
    monkeypatch.setattr(protocol, "FOLDER", protocol.FOLDER / "strict")
    arguments = ("--method", "adam,by_hand", "--studies", "2")
    assert run(*arguments) == 0
    records = read(Path("runs/mine/results.jsonl"))
    assert {(r["method"], r["study"]) for r in records} == {
        (method, study) for method in ("adam", "by_hand") for study in range(2)
    }
    assert {r["method"]: r["outcome"] for r in records} == {"adam": "hit", "by_hand": "miss"}
    assert reported == [(records, Path("runs/mine"))]
    lines = capsys.readouterr().err.splitlines()
    assert sum("reached log loss 0.505 at step" in line for line in lines) == 2
    assert sum("missed log loss 0.505, best" in line for line in lines) == 2
    assert lines[-1].startswith("[4/4] ")

    monkeypatch.setattr(
        "eval.plan.run", lambda trials, *_: pytest.fail(f"ran {trials}") if trials else None
    )
    assert run(*arguments) == 0
    assert len(reported) == 2


def test_studies_may_be_added_to_a_run(reported, monkeypatch):
    started = []
    monkeypatch.setattr("eval.plan.run", lambda trials, *_: started.extend(trials))
    run("--method", "adam", "--studies", "2")
    assert [trial.study for trial in started] == [0, 1]
    with Results(Path("runs/mine/results.jsonl")) as results:
        results.append(drive.record(started[0], [], "miss"))
    started.clear()
    run("--method", "adam", "--studies", "3")
    assert [trial.study for trial in started] == [1, 2]


def test_a_failed_trial_fails_the_command_but_not_the_others(reported, capfd):
    assert run("--method", "raising,adam", "--studies", "1") == 1
    outcomes = {r["method"]: r["outcome"] for r in reported[0][0]}
    assert outcomes == {"raising": "failed", "adam": "hit"}
    error = capfd.readouterr().err
    assert "raising 0: failed, RuntimeError: the gradient is bent" in error


def test_a_method_of_ones_own_needs_no_more_than_a_file(reported, mine):
    assert run("--method", f"{mine}:fast", "--studies", "1") == 0
    (record,) = reported[0][0]
    assert record["outcome"] == "hit"
    assert record["rules"]["method"].startswith("source with sha256 ")


def test_a_method_that_cannot_take_its_first_steps_is_refused_in_a_line(mine, capsys, nothing_runs):
    said = refused(["--method", f"{mine}:broken", "--out", "runs/mine"], capsys)
    assert "broken cannot train late_flights: KeyError: 'gamma'" in said
    assert read(Path("runs/mine/results.jsonl")) == []


def test_a_changed_source_is_another_method(mine, monkeypatch, capsys, reported):
    arguments = ["--method", "methods/mine.py:fast", "--out", "runs/mine", "--studies", "2"]
    trials = self_tuning._trials(self_tuning._parser().parse_args(arguments))
    with Results(Path("runs/mine/results.jsonl")) as results:
        for trial in trials:
            results.append(drive.record(trial, [], "miss"))
    started = []
    monkeypatch.setattr("eval.plan.run", lambda trials, *_: started.extend(trials))
    monkeypatch.setattr(self_tuning, "refuse_unusable", lambda trials: None)
    self_tuning.main(arguments)
    assert started == []
    mine.write_text(MINE + "# now with less noise\n")
    self_tuning.main([*arguments, "--dry-run"])
    assert "fast was edited: its 2 trials are dropped" in capsys.readouterr().out
    self_tuning.main(arguments)
    assert "fast was edited since its 2 trials here" in capsys.readouterr().err
    assert [trial.study for trial in started] == [0, 1]


def in_a_new_process(build):
    """What a build function makes of a model there."""
    script = (
        "import pickle, sys; from torch import nn; "
        "build = pickle.loads(sys.stdin.buffer.read()); "
        "print(build(nn.Linear(2, 2), 10)[0].param_groups[0]['lr'])"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(build),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
    ).stdout.decode()


def test_a_source_edited_during_the_run_is_what_it_was_when_the_command_began(tmp_path):
    folder = tmp_path / "edited"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    own, beside, inner = (folder / name for name in ("own.py", "beside.py", "inner/__init__.py"))
    own.write_text(
        "import torch\ndef build(model, num_steps):\n    import beside\n"
        "    return torch.optim.SGD(model.parameters(), beside.LR), None, None\n"
    )
    beside.write_text("from inner import LR\n")
    inner.write_text("LR = 0.125\n")
    method = own_method(f"{own}:build")
    own.write_text("raise RuntimeError('half an edit')\n")
    beside.write_text("LR = 2.0\n")
    inner.unlink()
    assert in_a_new_process(method.build) == "0.125\n"


def test_what_a_method_imports_from_beside_it_belongs_to_its_source(mine):
    before = own_method(f"{mine}:fast").summary
    neighbour = mine.parent / "neighbour_of_mine.py"
    neighbour.write_text(neighbour.read_text() + "# another lr\n")
    assert own_method(f"{mine}:fast").summary != before
    (mine.parent / "nobody_imports_me.py").write_text("LR = 1\n")
    assert own_method(f"{mine}:fast").summary == own_method(f"{mine}:broken").summary


def test_a_method_alone_is_known_by_its_files_sha256(tmp_path):
    path = tmp_path / "alone.py"
    path.write_text("def build(model, num_steps):\n    return None\n")
    expected = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert own_method(f"{path}:build").summary == f"source with sha256 {expected}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workload", "late_fligths"], "did you mean late_flights? accepted: late_flights, all"),
        (["--workload", ""], "unknown workload ''"),
        (["--method", "adamm"], "unknown method 'adamm'; did you mean adam? accepted: sgd, adam"),
        (["--method", "mine.py"], "or your own as path/to/file.py:function"),
        (["--method", "mine.py:fast"], "cannot import the method 'mine.py:fast': FileNotFound"),
        (["--method", "no.such.module:fast"], "ModuleNotFoundError: No module named 'no'"),
        (["--method", "builds:fast"], "builds has no function 'fast'"),
        (["--method", "builds:sgd,sgd"], "two methods are called 'sgd'; rename one"),
        (["--studies", "0"], "argument --studies: must be a whole number, at least 1, got '0'"),
        (["--studies", "many"], "argument --studies: must be a whole number"),
        (["--budget", "0"], "argument --budget: must be a number above 0, got '0'"),
        (["--budget", "nan"], "argument --budget: must be a number above 0, got 'nan'"),
        (["--budget", "inf"], "argument --budget"),
        (["--jobs", "-1"], "argument --jobs: must be a whole number, at least 1, got '-1'"),
        (["--seed", "-1"], "argument --seed: must be a whole number, at least 0, got '-1'"),
        (["--device", "abacus"], "cannot train on --device 'abacus'"),
        (["--out", "/dev/null/runs"], "/dev/null"),
        (["--wrokload", "all"], "unrecognized arguments: --wrokload all"),
        (["--work", "all"], "unrecognized arguments: --work all"),
    ],
)
def test_bad_input_is_one_line_and_runs_nothing(
    arguments, complaint, nothing_runs, capsys, monkeypatch
):
    monkeypatch.syspath_prepend(HERE)
    assert complaint in refused(arguments, capsys)


def test_a_workload_without_a_target_is_refused(nothing_runs, capsys):
    log(drive.LATE_FLIGHTS).unlink()
    assert "no target for late_flights" in refused([], capsys)


def test_damaged_data_are_refused_before_anything_runs(nothing_runs, capsys, monkeypatch, tmp_path):
    from eval import data

    (tmp_path / "flights.npz").write_bytes(b"not flights")
    (tmp_path / "MANIFEST.json").write_text((data.FOLDER / "MANIFEST.json").read_text())
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    assert "flights.npz has sha256" in refused([], capsys)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (["--budget", "1.5"], "with budget 3.0, not 1.5; choose another --out or remove runs/mine"),
        (["--seed", "1"], "with seed 0, not 1"),
    ],
)
def test_a_run_under_other_rules_is_refused_and_nothing_is_lost(changed, complaint, capsys):
    arguments = ["--method", "adam", "--out", "runs/mine"]
    path = Path("runs/mine/results.jsonl")
    (trial, *_) = self_tuning._trials(self_tuning._parser().parse_args(arguments))
    with Results(path) as results:
        results.append(drive.record(trial, [], "miss"))
    before = path.read_bytes()
    assert complaint in refused([*arguments, *changed], capsys)
    assert complaint in refused([*arguments, *changed, "--dry-run"], capsys)
    assert path.read_bytes() == before


def test_two_commands_on_one_folder_are_refused(nothing_runs, capsys):
    with Results(Path("runs/mine/results.jsonl")):
        assert "another run" in refused(["--method", "adam", "--out", "runs/mine"], capsys)


def test_a_damaged_last_line_is_said_and_its_trial_runs_again(reported, monkeypatch, capsys):
    started = []
    monkeypatch.setattr("eval.plan.run", lambda trials, *_: started.extend(trials))
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/results.jsonl").write_bytes(b'{"workload": "late_fl')
    run("--method", "adam", "--studies", "1")
    assert "the last line was damaged; its 21 bytes are cut off" in capsys.readouterr().err
    assert len(started) == 1


def test_the_list_names_workloads_targets_and_methods(capsys, nothing_runs):
    assert self_tuning.main(["--list"]) == 0
    listing = capsys.readouterr().out
    assert "late_flights             log loss <= 0.6 in 40 steps" in listing
    assert "adam                     adam of the tests\n" in listing


def test_the_list_says_which_targets_are_missing(capsys):
    log(drive.LATE_FLIGHTS).unlink()
    assert self_tuning.main(["--list"]) == 0
    assert "<= (not set yet)" in capsys.readouterr().out


def test_a_dry_run_shows_the_plan_and_leaves_no_trace(capsys, nothing_runs, monkeypatch):
    monkeypatch.setattr(self_tuning, "cores", lambda: 3)
    arguments = ["--method", "all", "--studies", "2", "--budget", "1.5", "--jobs", "3", "--dry-run"]
    assert self_tuning.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("10 trials of at most 1.5 x step_hint, 2 studies from seed 0:\n")
    assert out.count("up to 60 steps") == 5
    # (5 + 1.5 * 35) s for each of 10 trials, 3 at a time
    assert "0 are done in runs/self_tuning/results.jsonl; the rest takes about 4 minutes" in out
    assert not Path("runs").exists()


def test_a_dry_run_counts_with_the_cores_there_are(capsys, nothing_runs, monkeypatch):
    monkeypatch.setattr(self_tuning, "cores", lambda: 2)
    arguments = ["--method", "all", "--studies", "2", "--budget", "1.5", "--jobs", "10"]
    assert self_tuning.main([*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    # (5 + 1.5 * 35) s for each of 10 trials, 2 at a time
    assert "the rest takes about 5 minutes, 10 at a time" in out
    assert "this machine grants 2 cores: more than 2 trials at a time only take memory" in out


def test_failed_trials_run_again_when_asked_for(reported, monkeypatch):
    started = []
    monkeypatch.setattr("eval.plan.run", lambda trials, *_: started.extend(trials))
    arguments = ["--method", "adam", "--out", "runs/mine", "--studies", "2"]
    trials = self_tuning._trials(self_tuning._parser().parse_args(arguments))
    with Results(Path("runs/mine/results.jsonl")) as results:
        for trial, outcome in zip(trials, ("failed", "miss"), strict=True):
            results.append(drive.record(trial, [], outcome))
    self_tuning.main(arguments)
    assert started == []
    self_tuning.main([*arguments, "--retry-failed"])
    assert [trial.study for trial in started] == [0]


@pytest.mark.parametrize("redirection", ["> /dev/full", "2> /dev/null | exec true"])
def test_output_that_cannot_be_written_is_one_line_and_status_1(redirection):
    command = f"{sys.executable} -m eval.self_tuning --list {redirection}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") <= 1
    assert "Traceback" not in ended.stderr


COMMANDS = [
    path
    for path in sorted((HERE.parents[1] / "eval").rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(HERE.parents[1]).name)
def test_every_command_meets_full_disks_and_closed_pipes_in_the_same_way(path):
    _, _, end = path.read_text().partition('__name__ == "__main__"')
    assert end.strip(":\n ") in ("run(main)", "cli.run(main)")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (baselines_main, "--results nowhere.jsonl"),
        (baselines_main, "--out /dev/null/figures"),
        (generate.main, "--method nadamw --out /dev/null/entry"),
        (rebuild_published.main, "nowhere.gz nowhere.gz"),
        (set_targets.main, "--workload nowhere.py:NAME"),
    ],
)
def test_wrong_paths_are_one_line_in_every_command(main, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_terminal_without_all_letters_shows_the_others():
    script = "from eval.cli import run\nrun(lambda: print('gr\\u00f6\\u00dfer') or 0)"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "PYTHONIOENCODING": "ascii"},
    )
    assert (ended.returncode, ended.stdout) == (0, b"gr\\xf6\\xdfer\n")


def test_the_defaults_are_the_main_job():
    options = self_tuning._parser().parse_args([])
    assert (options.workload, options.method) == ("all", "self_tune")
    assert (options.studies, options.budget, options.seed) == (3, 3.0, 0)
    assert options.out == Path("runs/self_tuning")
    assert options.jobs == cores()
    assert options.method in METHODS


def test_an_interrupt_keeps_what_is_finished(tmp_path):
    numbers = tmp_path / "numbers"
    command = [sys.executable, str(HERE / "drive.py"), str(tmp_path), "--out", "runs/mine"]
    command += ["--method", "adam,endless", "--studies", "1", "--jobs", "1"]
    path = {"PYTHONPATH": str(HERE.parents[1]), "PROCESS_NUMBERS": str(numbers)}
    process = subprocess.Popen(
        command, env=os.environ | path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 600  # on a busy machine two trials take minutes to begin
    while not numbers.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, children included
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted: 1 of 2 trials are kept in runs/mine/results.jsonl" in error
    assert "Traceback" not in error
    (record,) = read(tmp_path / "runs/mine/results.jsonl")
    assert record["method"] == "adam"
    with pytest.raises(ProcessLookupError):
        os.kill(int(numbers.read_text()), 0)


def test_all_means_all_of_the_suite():
    other = replace(drive.LATE_FLIGHTS, name="other")
    known = {"late_flights": drive.LATE_FLIGHTS, "other": other}
    assert chosen_workloads("all", known, [other]) == [other]
    assert chosen_workloads("late_flights", known, [other]) == [drive.LATE_FLIGHTS]


def test_an_empty_suite_is_refused(capsys):
    assert "this suite has no workloads yet" in refused(["--suite", "wide", "--dry-run"], capsys)


def test_damaged_step_times_are_refused_before_anything_runs(nothing_runs, tmp_path, capsys):
    (tmp_path / "step_times.json").write_text("{")
    assert "holds no step times" in refused(["--out", str(tmp_path)], capsys)
