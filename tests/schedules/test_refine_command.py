"""`python -m selftune.schedules refine`, for people who only have a log."""

import subprocess
import sys

import numpy as np
import pytest

from selftune.schedules import NormLog, Schedule, refine
from selftune.schedules.__main__ import main


@pytest.fixture
def log(tmp_path):
    steps = np.arange(0, 2000, 10)
    norms = 1 + np.exp(-steps / 50)
    lrs = 0.1 * (1 - steps / 2000)
    NormLog(steps, {"l2": norms}, lrs=lrs).save(tmp_path / "norms.csv")
    return tmp_path / "norms.csv"


def test_it_writes_schedule_and_picture_and_says_what_it_found(log, tmp_path):
    out, png = tmp_path / "schedule.json", tmp_path / "schedule.png"
    command = [sys.executable, "-m", "selftune.schedules", "refine", str(log)]
    result = subprocess.run(
        [*command, "--out", str(out), "--png", str(png)], capture_output=True, text=True, check=True
    )
    schedule = Schedule.from_json(out.read_text())
    expected = refine(NormLog.load(log))
    assert schedule.total_steps == 2000
    assert np.array_equal(schedule.factors(), expected.factors())
    assert png.read_bytes().startswith(b"\x89PNG")
    assert result.stdout == f"2000 steps; {expected.diagnostics}\n"
    assert "peak at" in result.stdout


def test_its_options_are_those_of_refine(log, tmp_path, capsys):
    out = tmp_path / "schedule.json"
    options = ["--kind", "adam", "--weight-decay", "0.1", "--total-steps", "500"]
    options += ["--warmup", "50"]
    assert main(["refine", str(log), "--out", str(out), *options, "--smoothing", "0.2"]) == 0
    expected = refine(NormLog.load(log), 500, "adam", 0.2, warmup=50, weight_decay=0.1)
    assert np.array_equal(Schedule.from_json(out.read_text()).factors(), expected.factors())
    assert "decoupled by model" in capsys.readouterr().out


def test_columns_and_one_run_of_many_can_be_chosen(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    rows = [f"{run},{t},{norm}" for run, norm in (("a", 1.0), ("b", 2.0)) for t in range(20)]
    path.write_text("\n".join(["run,t,g", *rows]))
    options = ["--column", "t=step", "--column", "g=l2"]
    assert main(["refine", str(path), *options, "--where", "run=b"]) == 0
    assert "20 steps" in capsys.readouterr().out
    assert main(["refine", str(path), *options]) == 1
    assert "several runs?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("step,loss\n0,1\n", "no column of gradient norms"),
        ("step,l2\n0,0\n1,0\n", "at least 2 gradient norms that are positive and finite"),
    ],
)
def test_what_goes_wrong_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "norms.csv"
    if text is not None:
        path.write_text(text)
    out = tmp_path / "schedule.json"
    assert main(["refine", str(path), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_table_that_was_cut_off_is_one_line_too(tmp_path, capsys):
    path = tmp_path / "norms.csv.gz"
    NormLog(np.arange(1000), {"l2": np.random.default_rng(0).random(1000)}).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["refine", str(path)]) == 1
    error = capsys.readouterr().err
    assert "cannot be read as a CSV table" in error
    assert error.count("\n") == 1


def test_without_matplotlib_the_schedule_is_written_and_the_remedy_said(
    log, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out, png = tmp_path / "schedule.json", tmp_path / "schedule.png"
    assert main(["refine", str(log), "--out", str(out), "--png", str(png)]) == 1
    assert Schedule.from_json(out.read_text()).total_steps == 2000
    assert "pip install 'selftune[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["selftune.refinement", "selftune.schedules"])
def test_its_help_has_the_name_by_which_it_was_called(module):
    command = [sys.executable, "-m", module, "--help"]
    help_text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert help_text.startswith(f"usage: python -m {module} ")
