"""`--launcher slurm` on a real Slurm, of this one machine, which this file starts."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fake_home
import one_node_slurm
import pytest
from fake_home import a_run, calls

from eval import results, self_tuning
from eval.algoperf import full, preflight
from eval.algoperf.launchers import run_on_cluster

pytestmark = pytest.mark.slurm
REPOSITORY = Path(__file__).parents[3]
COMMAND = [
    *("--scale", "full", "--rules", "v0.6", "--data-dir", "data", "--workload", "ogbg,wmt"),
    *("--method", "prodigy", "--studies", "1", "--gpus", "2", "--out", "out"),
    *("--launcher", "slurm", "--jobs", "1", "--slurm", "partition=usual"),
]
SECONDS = 300  # the longest that anything here may take, on a busy machine

if one_node_slurm.missing():
    pytest.skip(
        f"needs Slurm, which lacks {', '.join(one_node_slurm.missing())} here: apt-get install "
        "slurmctld slurmd slurm-client munge",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """What has to be in the environment."""
    try:
        with one_node_slurm.running(tmp_path_factory.mktemp("slurm")) as environment:
            yield environment
    except RuntimeError as error:
        pytest.skip(f"Slurm does not start here: {error}")


@pytest.fixture
def place(tmp_path, monkeypatch, slurm):
    """A folder with a fake AlgoPerf and data, in which the command is run."""
    fake_home.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALGOPERF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # of the jobs
    monkeypatch.setattr(preflight, "GIGABYTES", 0)
    monkeypatch.setattr(full, "run_on_cluster", partial(run_on_cluster, poll=0.5))
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    subprocess.run(["scancel", "--me"], check=True)
    until(lambda: not queue())


def queue():
    command = ["squeue", "--noheader", "--array", "--format=%P %T"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def until(ready):
    end = time.monotonic() + SECONDS
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.1)


def carried_out(place, during):
    """What ended, and why if it failed, when `during` is done while the run is at it."""
    run = a_run(place, gpus=2)
    ends = {}
    (place / "home" / "slow").touch()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(
            run_on_cluster,
            [run],
            lambda run, error: ends.update({run.name: error}),
            seconds=lambda run: 60.0,
            at_once=1,
            options={"partition": "usual"},
            poll=0.5,
        )
        until(lambda: calls(place))
        during()
        waiting.result(timeout=SECONDS)
    return ends


def test_every_run_is_a_job_of_one_array(place):
    assert self_tuning.main(COMMAND) == 0
    records = results.read(place / "out" / "results.jsonl")
    assert {results.key(r) for r in records} == {("ogbg", "prodigy", 0), ("wmt", "prodigy", 0)}
    assert {r["outcome"] for r in records} == {"hit"}
    logs = sorted(path.name for path in (place / "out" / "jobs").glob("*.out"))
    assert [name.partition("_")[2] for name in logs] == ["0_0_log.out", "1_0_log.out"]


def test_jobs_outlive_the_launcher_which_waits_for_them_when_started_again(place):
    (place / "home" / "slow").touch()
    launcher = subprocess.Popen([sys.executable, "-m", "eval.self_tuning", *COMMAND])
    try:
        until(lambda: calls(place))
    finally:
        launcher.kill()
        launcher.wait()
    assert len(queue()) == 2
    (place / "home" / "slow").unlink()
    assert self_tuning.main(COMMAND) == 0
    assert len(results.read(place / "out" / "results.jsonl")) == 2
    assert len(calls(place)) == 4  # a rehearsal and a run for each workload


def test_a_job_that_had_to_make_room_is_queued_again_and_carried_out(place):
    def make_room():
        command = ["sbatch", "--partition=urgent", "--exclusive", "--wrap=true"]
        subprocess.run([*command, "--output=/dev/null"], check=True, stdout=subprocess.DEVNULL)
        until(lambda: "usual PENDING" in queue())
        (place / "home" / "slow").unlink()

    assert carried_out(place, make_room) == {"ogbg-prodigy-study_0": None}
    assert len(calls(place)) == 3  # a rehearsal that was ended, a rehearsal, a run


def test_a_job_that_was_cancelled_is_said(place):
    ends = carried_out(place, lambda: subprocess.run(["scancel", "--me"], check=True))
    assert "left the queue without a result" in ends["ogbg-prodigy-study_0"]
