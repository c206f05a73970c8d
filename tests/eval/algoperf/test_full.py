import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import fake_home
import pytest
import submitit
from fake_home import a_run, calls

from eval import results, self_tuning
from eval.algoperf import launchers, preflight, slurm_queue
from eval.algoperf.benchmark import V05, V06
from eval.algoperf.datasets import DATASETS
from eval.algoperf.launchers import Job, run_on_cluster
from eval.algoperf.official_run import carry_out
from eval.algoperf.slurm_queue import in_queue

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a fake AlgoPerf and data, in which the command is run."""
    fake_home.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALGOPERF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(preflight, "GIGABYTES", 0)
    return tmp_path


COMMAND = [
    *("--scale", "full", "--rules", "v0.6", "--data-dir", "data", "--workload", "ogbg,wmt"),
    *("--method", "prodigy", "--studies", "2", "--gpus", "2", "--out", "out"),
]


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        self_tuning.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


def changed(**options):
    """The command with other options; None leaves one out."""
    pairs = dict(zip(COMMAND[::2], COMMAND[1::2], strict=True))
    pairs |= {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    return [word for pair in pairs.items() if pair[1] is not None for word in pair]


def test_every_run_is_carried_out_recorded_and_reported(place, capsys):
    assert self_tuning.main(COMMAND) == 0
    records = results.read(place / "out" / "results.jsonl")
    assert [results.key(record) for record in records] == [
        ("ogbg", "prodigy", 0),
        ("wmt", "prodigy", 0),
        ("ogbg", "prodigy", 1),
        ("wmt", "prodigy", 1),
    ]
    assert all((r["outcome"], r["steps_to_target"]) == ("hit", 100) for r in records)
    assert {r["rules"]["seed"] for r in records} == {int(c["rng_seed"]) for c in calls(place)}
    assert "2x Some GPU" in (place / "out" / "score.md").read_text()
    submission = place / "out" / calls(place)[0]["submission_path"]
    assert submission.is_file()

    before = len(calls(place))
    assert self_tuning.main(COMMAND) == 0
    assert len(calls(place)) == before


def test_each_workload_is_rehearsed_once_before_it_is_run(place):
    self_tuning.main(COMMAND)
    names = [(c["workload"], c["experiment_name"], c.get("max_global_steps")) for c in calls(place)]
    assert names == [
        ("ogbg", "rehearsals/prodigy", "1"),
        ("ogbg", "logs/prodigy/study_0", None),
        ("wmt", "rehearsals/prodigy", "1"),
        ("wmt", "logs/prodigy/study_0", None),
        ("ogbg", "logs/prodigy/study_1", None),
        ("wmt", "logs/prodigy/study_1", None),
    ]


def test_a_run_that_fails_is_said_with_its_last_words_and_tried_again(place, capsys):
    (place / "home" / "broken").write_text("study_1")
    assert self_tuning.main(COMMAND) == 1
    said = capsys.readouterr().err
    assert "the runner fell over" in said
    assert "tried again by the same command: ogbg-prodigy-study_1, wmt-prodigy-study_1" in said
    before = len(calls(place))
    (place / "home" / "broken").unlink()
    assert self_tuning.main(COMMAND) == 0
    again = [(c["workload"], c["experiment_name"]) for c in calls(place)[before:]]
    assert again == [("ogbg", "logs/prodigy/study_1"), ("wmt", "logs/prodigy/study_1")]
    assert len(results.read(place / "out" / "results.jsonl")) == 4


def test_nothing_is_trained_where_no_evaluation_succeeds(place, capsys):
    (place / "home" / "no_evaluation").touch()
    assert self_tuning.main(COMMAND) == 1
    said = capsys.readouterr().err
    assert "ogbg: no evaluation succeeds with the state of prodigy in memory" in said
    assert {c["experiment_name"] for c in calls(place)} == {"rehearsals/prodigy"}


def test_a_finished_run_whose_record_was_lost_is_read_and_not_repeated(place):
    self_tuning.main(COMMAND)
    before = len(calls(place))
    (place / "out" / "results.jsonl").unlink()
    assert self_tuning.main(COMMAND) == 0
    assert len(calls(place)) == before
    assert len(results.read(place / "out" / "results.jsonl")) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed parent is not noticed")
def test_killing_the_launcher_ends_the_runner_and_starting_it_again_continues(place):
    (place / "home" / "slow").touch()
    launcher = subprocess.Popen(
        [sys.executable, "-m", "eval.self_tuning", *COMMAND],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        while not calls(place):
            assert launcher.poll() is None
            time.sleep(0.1)
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    runner = calls(place)[0]["pid"]
    while Path(f"/proc/{runner}").exists():  # it got SIGTERM
        if "(zombie)" in Path(f"/proc/{runner}/status").read_text():
            break
        time.sleep(0.1)
    (place / "home" / "slow").unlink()
    assert self_tuning.main(COMMAND) == 0
    assert len(results.read(place / "out" / "results.jsonl")) == 4


def test_all_that_is_missing_is_said_before_anything_runs_a_line_each(place, capsys):
    (place / "data" / "wmt" / "wmt_sentencepiece_model").unlink()
    lines = refused(changed(gpus="3"), capsys).splitlines()
    assert "torch 2.5.1 sees 2 GPUs, --gpus asks for 3" in lines[0]
    assert "the batch of ogbg, 512, cannot be shared by 3 GPUs" in lines[1]
    assert "the batch of wmt, 128" in lines[2]
    assert "wmt (3.3 GB) is not in data: no data/wmt/wmt_sentencepiece_model" in lines[3]
    assert "python datasets/dataset_setup.py --data_dir data" in lines[3]
    assert len(lines) == 4
    assert calls(place) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": None}, "needs --data-dir DIR"),
        ({"algoperf_home": "nowhere"}, "it lacks submission_runner.py or algoperf/; get it by git"),
        ({"rules": "v0.5"}, "it lacks submission_runner.py or algorithmic_efficiency/"),
        ({"rules": "v0.7"}, "unknown rules 'v0.7'"),
        ({"workload": "imagnet_vit"}, "did you mean imagenet_vit"),
        ({"workload": "fastmri"}, "has no workload fastmri; leave it out"),
        ({"method": "leopard"}, "unknown method 'leopard'"),
        ({"launcher": "slurm"}, "there is no sbatch here: start on a login node"),
        ({"slurm": "partition"}, "must be OPTION=VALUE, like partition=gpu, got 'partition'"),
    ],
)
def test_bad_input_is_a_line_that_says_the_remedy(place, capsys, monkeypatch, options, message):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert message in refused(changed(**options), capsys)
    assert calls(place) == []


def test_an_algoperf_that_cannot_be_imported_is_said_with_the_reason(place, capsys):
    (place / "home" / "jax.py").write_text("raise ImportError('no such plugin')")
    said = refused(COMMAND, capsys)
    assert "ImportError: no such plugin; install it by" in said
    assert said.count("\n") == 1


def test_a_full_disk_is_said(place, capsys, monkeypatch):
    monkeypatch.setattr(preflight, "GIGABYTES", 10**9)
    assert "GB left, runs need 1000000000; free some" in refused(COMMAND, capsys)


def test_a_dry_run_shows_commands_and_hours_and_runs_nothing(place, capsys):
    assert self_tuning.main([*COMMAND, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("--submission_path=selftune_submissions/self_tuning/prodigy") == 2
    assert "A projection, not a measurement" in shown
    assert "4 runs by the rules of v0.6, 2 studies from seed 0; 0 are done" in shown
    assert calls(place) == []
    assert not (place / "out").exists()


def test_a_list_says_what_is_there_and_what_is_missing(place, capsys):
    assert self_tuning.main([*COMMAND, "--list"]) == 0
    assert "nothing is missing" in capsys.readouterr().out
    (place / "data" / "wmt" / "wmt_sentencepiece_model").unlink()
    assert self_tuning.main([*COMMAND, "--list"]) == 0
    shown = capsys.readouterr().out
    assert "data in ogbg" in shown
    assert "missing:\nwmt (3.3 GB) is not in data" in shown


def test_the_command_is_the_official_one(place):
    command = a_run(place).command()
    assert command[1:7] == [
        *("-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=8"),
        "--redirects=1:0,2:0,3:0,4:0,5:0,6:0,7:0",
    ]
    assert command[7:] == [
        str(place / "home" / "submission_runner.py"),
        "--framework=pytorch",
        "--workload=ogbg",
        "--tuning_ruleset=self",
        "--submission_path=selftune_submissions/self_tuning/prodigy/submission.py",
        "--data_dir=/data/ogbg",
        f"--experiment_dir={place / 'out'}",
        "--experiment_name=logs/prodigy/study_0",
        "--overwrite=True",
        "--save_checkpoints=False",
        "--rng_seed=7",
        "--torch_compile=True",
    ]


def test_with_checkpoints_a_run_goes_on_from_its_last(place):
    run = a_run(place, checkpoints=True)
    assert "--save_checkpoints=True" in run.command()
    assert "--overwrite=True" in run.command()
    run.trial.mkdir(parents=True)
    with zipfile.ZipFile(run.trial / "checkpoint_100", "w") as file:
        file.writestr("data.pkl", "a model")
    assert "--resume_last_run=True" in run.command()
    assert "--overwrite=True" not in run.command()
    assert "--overwrite=True" in run.command(rehearsal=True)


def test_a_checkpoint_that_was_not_written_to_its_end_is_no_checkpoint(place):
    run = a_run(place, checkpoints=True)
    run.trial.mkdir(parents=True)
    path = run.trial / "checkpoint_100"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", "a model")
    path.write_bytes(path.read_bytes()[:-30])
    assert "--overwrite=True" in run.command()


def test_v05_runs_have_the_step_limit_that_its_own_runs_had(place, capsys):
    arguments = [*changed(rules="v0.5", workload="ogbg,wmt_glu_tanh"), "--dry-run"]
    assert self_tuning.main(arguments) == 0
    shown = capsys.readouterr().out
    for workload in (V05.workloads["ogbg"], V05.held_out["wmt_glu_tanh"]):
        assert f"--max_global_steps={3 * workload.step_hint}" in shown
    self_tuning.main([*COMMAND, "--dry-run"])
    assert "--max_global_steps" not in capsys.readouterr().out
    self_tuning.main([*COMMAND, "--budget", "0.5", "--dry-run"])
    assert f"--max_global_steps={V06.workloads['ogbg'].step_hint // 2}" in capsys.readouterr().out


def test_imagenet_and_librispeech_need_flags_of_their_own(tmp_path):
    image = DATASETS["imagenet"].flags(tmp_path)
    place = tmp_path / "imagenet" / "pytorch"
    assert image == [f"--data_dir={place}", f"--imagenet_v2_data_dir={place}"]
    elsewhere = tmp_path / "imagenet_v2/matched-frequency/3.0.0/dataset_info.json"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.touch()
    assert DATASETS["imagenet"].flags(tmp_path)[1] == f"--imagenet_v2_data_dir={tmp_path}"
    vocabulary = tmp_path / "librispeech" / "spm_model.vocab"
    assert DATASETS["librispeech"].flags(tmp_path)[1:] == [
        f"--librispeech_tokenizer_vocab_path={vocabulary}"
    ]


def test_every_official_data_set_is_looked_for_before_it_is_used(tmp_path):
    for rules in (V05, V06):
        for workload in rules.all_workloads.values():
            assert DATASETS[workload.dataset].missing(tmp_path)


def carried_out(runs, cluster):
    """What ended, and why if it failed."""
    ends = {}
    run_on_cluster(
        runs,
        lambda run, error: ends.update({run.name: error}),
        seconds=lambda run: 60.0,
        at_once=1,
        options={},
        cluster=cluster,
        poll=0.1,
    )
    return ends


def test_a_cluster_carries_out_the_runs_as_jobs(place):
    runs = [a_run(place, workload=name, gpus=0) for name in ("ogbg", "wmt")]
    (place / "home" / "broken").write_text("study_1")
    runs.append(a_run(place, study=1, gpus=0))
    ends = carried_out(runs, "local")
    assert set(ends) == {run.name for run in runs}
    assert ends["ogbg-prodigy-study_0"] is ends["wmt-prodigy-study_0"] is None
    assert "the runner fell over" in ends["ogbg-prodigy-study_1"]
    assert all(run.mark.exists() for run in runs[:2])


def test_jobs_can_be_debugged_in_this_process(place):
    run = a_run(place, gpus=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        # submitit leaves its debug logs open.
        assert carried_out([run], "debug") == {run.name: None}
        gc.collect()
    assert run.mark.exists()


@pytest.fixture
def squeue(place, monkeypatch):
    """A file with what squeue is going to say; it fails where there is none."""
    programs = place / "programs"
    programs.mkdir()
    for name in ("squeue", "srun"):
        (programs / name).write_text(f"#!/bin/sh\nexec cat {place / 'queue'}\n")
        (programs / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return place / "queue"


def left_in_the_queue(run, job_id):
    folder = run.out / "jobs"
    folder.mkdir(parents=True)
    (folder / f"{run.name}.json").write_text(json.dumps(job_id))
    return submitit.SlurmJob(folder, job_id)


def test_started_again_it_waits_for_the_jobs_that_are_in_the_queue(place, squeue):
    run = a_run(place)
    job = left_in_the_queue(run, "42_0")
    squeue.write_text("41\n42_0\n42_1\n")
    looks = []

    def look(jobs):
        looks.append(len(looks))
        if len(looks) == 2:
            squeue.unlink()  # Slurm does not answer for a while
        if len(looks) == 4:
            with job.paths.result_pickle.open("wb") as file:
                pickle.dump(("success", None), file)
        return in_queue(jobs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm_queue, "in_queue", look)
        assert carried_out([run], "slurm") == {run.name: None}
    assert len(looks) == 4
    assert list((run.out / "jobs").glob("*.json")) == []


def test_a_job_that_is_in_the_queue_no_more_and_has_no_result_has_failed(place, squeue):
    job = left_in_the_queue(a_run(place), "42_0")
    queue = slurm_queue.Queue()
    squeue.write_text("")
    assert queue.ended({"a run": job}) == {}  # its result may be on its way
    squeue.write_text("42_0\n")
    assert queue.ended({"a run": job}) == {}  # it is queued again
    squeue.write_text("42_1\n")
    assert queue.ended({"a run": job}) == {}
    error = queue.ended({"a run": job})["a run"]
    assert "job 42_0 left the queue without a result" in error


def test_a_job_that_ended_while_nobody_waited_is_not_queued_again(place):
    run = a_run(place, gpus=0)
    carry_out(run)
    before = len(calls(place))
    assert carried_out([run], "local") == {run.name: None}
    assert len(calls(place)) == before
    assert not (run.out / "jobs").exists()


def test_a_job_whose_processes_are_told_to_end_does_not_call_its_run_failed(place, monkeypatch):
    monkeypatch.setattr(launchers, "GRACE", 0.5)

    def told(run):
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("ended with status -15")

    monkeypatch.setattr(launchers, "carry_out", told)
    before = signal.getsignal(signal.SIGTERM)
    begin = time.monotonic()
    with pytest.raises(RuntimeError):  # if nothing follows after all
        Job()(a_run(place))
    assert time.monotonic() - begin > 1.5
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_job_that_has_to_make_room_is_queued_again_as_it_was(place):
    run = a_run(place)
    delayed = Job().checkpoint(run)
    assert isinstance(delayed.function, Job)
    assert delayed.args == (run,)


def test_two_that_carry_out_the_same_run_do_it_once(place):
    run = a_run(place, gpus=0)
    carry_out(run)
    before = len(calls(place))
    said = []
    carry_out(run, said.append)
    assert len(calls(place)) == before
    assert said == []
