"""Our launcher and the unmodified runner of AlgoPerf v0.6, on its mnist workload and a CPU.

ALGOPERF_HOME is a checkout, ALGOPERF_PYTHON the interpreter it is installed for, if not this one.
ALGOPERF_DATA may name a --data-dir with mnist in it; without it the digits are made up. Takes some
minutes: every process of the runner fills a buffer of 160,000 digits before its first evaluation.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from zipfile import is_zipfile

import pytest
from mnist_records import made_up, write

from eval import results, score
from eval.algoperf import logs, preflight
from eval.algoperf.benchmark import MNIST, V06

HOME = os.environ.get("ALGOPERF_HOME", "")
PYTHON = os.environ.get("ALGOPERF_PYTHON", sys.executable)
REPOSITORY = Path(__file__).parents[3]
NAMES = ("schedule_free_adamw", "nadamw", "prodigy")
STEPS = 100  # after the checkpoint that the first run goes on from

if not HOME:
    pytest.skip(
        "needs a checkout of mlcommons/algorithmic-efficiency, named by ALGOPERF_HOME",
        allow_module_level=True,
    )
try:
    preflight.probe(Path(HOME), PYTHON, V06)
except ValueError as error:
    pytest.skip(str(error), allow_module_level=True)


def launched(place, *options):
    command = [
        *(sys.executable, "-m", "eval.self_tuning", "--scale", "full", "--rules", "v0.6"),
        *("--workload", "mnist", "--gpus", "0", "--studies", "1", "--method", ",".join(NAMES)),
        *("--data-dir", str(data(place)), "--python", PYTHON, "--checkpoints"),
        *("--out", str(place / "out"), *options),
    ]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def data(place):
    if "ALGOPERF_DATA" in os.environ:
        return Path(os.environ["ALGOPERF_DATA"]).resolve()
    if not (place / "data").exists():
        write(place / "data" / "mnist", *made_up())
    return place / "data"


def trial(place, name):
    return place / "out" / "logs" / name / "study_0" / "mnist_pytorch" / "trial_1"


def checkpoint(place):
    """The step of the first method's last checkpoint, 0 if there is none."""
    paths = trial(place, NAMES[0]).glob("checkpoint_*")
    return max((int(path.name.partition("_")[2]) for path in paths if is_zipfile(path)), default=0)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Where a launcher was killed in the middle of its first run, and another went on to the end;
    the step that it went on from, and what it said."""
    place = tmp_path_factory.mktemp("official")
    with launched(place) as killed:
        while checkpoint(place) < 2:  # the first step is followed by an evaluation
            assert killed.poll() is None
            time.sleep(0.2)
        killed.kill()
    step = checkpoint(place)
    with launched(place, "--budget", repr((step + STEPS) / MNIST.step_hint)) as second:
        assert second.stdout is not None
        said = second.stdout.read()
    assert second.returncode == 0
    return place, step, said


@pytest.mark.parametrize("name", NAMES)
def test_the_runner_trains_a_method_and_its_logs_are_read(ended, name):
    place, step, _ = ended
    (record,) = (r for r in results.read(place / "out" / "results.jsonl") if r["method"] == name)
    spent = record["seconds"]["training"] > V06.budget * MNIST.runtime  # on a busy machine
    assert record["steps"] == step + STEPS or spent
    before, *_, after = (accuracy for _, _, accuracy in record["curve"])
    assert after > before
    (read,) = logs.read(place / "out" / "logs" / name, V06)
    assert read["curve"] == record["curve"]


def test_a_run_whose_launcher_was_killed_goes_on_from_its_checkpoint(ended):
    place, step, _ = ended
    flags = json.loads((trial(place, NAMES[0]) / "flags_1.json").read_text())  # of the second
    assert flags["resume_last_run"]
    steps = [
        at for at, _, _ in logs.read_trial(trial(place, NAMES[0]), "mnist", "pytorch", V06)["curve"]
    ]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert step in steps
    assert steps[-1] > step


def test_what_was_done_is_not_done_again(ended):
    _, _, said = ended
    running = [line for line in said.splitlines() if line.endswith(": running")]
    assert running == [f"mnist {name} study 0: running" for name in NAMES]
    tried = [line for line in said.splitlines() if line.endswith(": trying one evaluation")]
    assert tried == [f"mnist {name}: trying one evaluation" for name in NAMES[1:]]


def test_its_logs_are_scored(ended, capsys):
    place, _, _ = ended
    assert score.main([str(place / "out" / "logs"), "--against", "none", "--rules", "v0.6"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
