"""Workloads of the user's own: the page of documentation, run, and what can go wrong."""

import os
import pickle
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from late_flights import LATE_FLIGHTS
from trials import TRIAL, comparable

from eval import self_tuning
from eval.fingerprint import fingerprint
from eval.results import read
from eval.targets import log, protocol
from eval.trial import checksum, run_trial
from eval.user_workloads import chosen_workloads, own_workload

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "own_workload.md").read_text()
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL))
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)[0].splitlines()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The page's files, with their data, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name, source in FILES.items():
        (tmp_path / name).write_text(source)
    subprocess.run([sys.executable, "make_spirals.py"], check=True)
    return tmp_path


def spirals(name="spirals.py"):
    return own_workload(f"{name}:WORKLOAD", {"late_flights": LATE_FLIGHTS})


def test_the_page_sets_a_target_and_reaches_it(folder):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    for command in COMMANDS[1:]:
        module = [sys.executable, *shlex.split(command)[1:]]
        ended = subprocess.run(module, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    search = read(folder / "spirals.targets.jsonl")
    assert [record["method"] for record in search][:4] == ["search"] * 4
    assert len(search) == 5
    (record,) = read(folder / "runs/spirals/results.jsonl")
    workload = spirals()
    assert record["rules"]["data"] == checksum(workload)
    assert record["rules"]["code"] == fingerprint(workload)
    assert record["rules"]["target"] == search[-1]["best_validation"]
    assert record["target_from"] == "4 configurations and 1 seed"
    assert record["outcome"] in ("hit", "miss")
    report = (folder / "runs/spirals/results.md").read_text()
    assert "spirals" in report.splitlines()[0]


def test_its_search_is_recorded_beside_its_source(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "spirals.py").write_text(FILES["spirals.py"])
    assert log(spirals("deep/spirals.py")) == folder / "deep" / "spirals.targets.jsonl"
    assert log(LATE_FLIGHTS).parent == protocol.FOLDER


def test_another_process_finds_it_again_even_with_functions_without_names(folder):
    source = FILES["spirals.py"].replace(
        "build_model=build_model", "build_model=lambda: nn.Sequential(nn.Linear(2, 2))"
    )
    (folder / "unnamed.py").write_text(source)
    workload = spirals("unnamed.py")
    again = pickle.loads(pickle.dumps(workload))
    assert again == workload
    assert len(list(again.build_model().parameters())) == 2


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("nn.Linear(2, 32)", "nn.Linear( 2,32 )", True),
        ("while True:  # endless", "while True:  # for ever", True),
        ("def loss(model, batch):\n", 'def loss(model, batch):\n    """Mean."""\n', True),
        ("32", "48", False),
        ("nn.Tanh", "nn.ReLU", False),
        ("rows[:600]", "rows[:500]", False),
    ],
)
def test_its_code_is_known_by_what_it_does(folder, before, after, same):
    assert before in FILES["spirals.py"]
    (folder / "changed.py").write_text(FILES["spirals.py"].replace(before, after))
    assert (fingerprint(spirals()) == fingerprint(spirals("changed.py"))) == same


def test_its_code_is_also_what_it_imports_from_its_folder(folder):
    source = FILES["spirals.py"].replace(
        "def build_model():", "from nets import build_model\n\n\ndef unused():"
    )
    codes = []
    for name, activation in (("one", "Tanh"), ("two", "ReLU")):
        (folder / name).mkdir()
        (folder / name / "spirals.py").write_text(source)
        (folder / name / "nets.py").write_text(
            "from torch import nn\n\n\n"
            f"def build_model():\n    return nn.Sequential(nn.{activation}())\n"
        )
        codes.append(fingerprint(spirals(f"{name}/spirals.py")))
        sys.modules.pop("nets")
        sys.path.pop()
    assert codes[0] != codes[1]


@pytest.mark.parametrize(
    ("source", "name", "complaint"),
    [
        ("", "WORKLOAD", "own.py has no workload 'WORKLOAD'; write --workload own.py:NAME"),
        ("WORKLOAD = 3", "WORKLOAD", "own.py has no workload 'WORKLOAD'"),
        ("import no_such_module", "WORKLOAD", "cannot import the workload 'own.py:WORKLOAD'"),
        ("from late_flights import LATE_FLIGHTS", "LATE_FLIGHTS", "as a bundled workload is"),
    ],
)
def test_what_is_no_workload_is_refused_in_a_line(folder, source, name, complaint):
    (folder / "own.py").write_text(source)
    with pytest.raises(ValueError, match=re.escape(complaint)) as refusal:
        own_workload(f"own.py:{name}", {"late_flights": LATE_FLIGHTS})
    assert "\n" not in str(refusal.value)


def test_two_workloads_of_one_name_are_refused(folder):
    (folder / "copy.py").write_text(FILES["spirals.py"])
    with pytest.raises(ValueError, match="two workloads are called 'spirals'"):
        chosen_workloads("spirals.py:WORKLOAD,copy.py:WORKLOAD", {}, [])


def test_a_model_that_cannot_be_built_is_refused_before_anything_runs(folder, capsys):
    source = FILES["spirals.py"].replace("return nn.Sequential(", "return nn.Sequentiell(")
    (folder / "broken.py").write_text(source)
    with pytest.raises(SystemExit, match="2"):
        self_tuning.main(["--workload", "broken.py:WORKLOAD"])
    error = capsys.readouterr().err
    assert "cannot build the model of workload spirals: AttributeError" in error
    assert error.count("\n") == 1


def test_its_missing_data_are_refused_before_anything_runs(folder, capsys):
    (folder / "spirals.csv").unlink()
    with pytest.raises(SystemExit, match="2"):
        self_tuning.main(["--workload", "spirals.py:WORKLOAD"])
    assert "spirals.csv' is neither a file" in capsys.readouterr().err


def test_without_a_target_the_message_has_the_command_that_sets_it(folder):
    with pytest.raises(ValueError, match=r"eval\.set_targets --workload spirals\.py:WORKLOAD`"):
        protocol.target(spirals())


def test_a_source_edited_during_the_run_is_what_it_was_when_the_command_began(folder):
    trial = replace(TRIAL, workload=spirals(), budget=0.05)
    before = run_trial(trial)
    (folder / "spirals.py").write_text("raise RuntimeError('half an edit')\n")
    assert comparable(run_trial(trial)) == comparable(before)
