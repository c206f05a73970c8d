"""`--ablate`: paired studies, averages that ride along, recordings, and what is reported."""

import csv
import pickle
import re
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path

import builds
import drive
import numpy as np
import pytest
import synthetic
import torch
from torch.optim.lr_scheduler import LambdaLR
from trials import TRIAL

from eval import self_tuning
from eval.ablation.axes import REFINED, Axes, with_warmup
from eval.ablation.cells import Cell, cells
from eval.ablation.plan import WithSchedule, expanded
from eval.ablation.report import report
from eval.ablation.tables import gains_table, grid, metrics_table, steps_table
from eval.methods import METHODS, Method
from eval.observers import Observers, from_json, to_json
from eval.results import read
from eval.schema import problem
from eval.targets import protocol
from eval.trial import run_trial
from selftune.averaging import EMA, Tail, WeightAverage
from selftune.schedules import NormLog, ScheduleLR, cosine, linear, refine, transfer_lr

NADAMW = METHODS["nadamw"]
BASE = replace(
    TRIAL, method="nadamw", configuration="as it is", build=NADAMW.build, budget=1.0, target=0.6
)
ALL = "schedule=cosine,constant,refined; averaging=none,ema,tail"


@pytest.fixture(autouse=True)
def tests_own(monkeypatch, tmp_path):
    """The command, on the tests' workload, with all trials in this process."""
    own = {**drive.METHODS, "nadamw": NADAMW, "free": METHODS["schedule_free_adamw"]}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(self_tuning, "WORKLOADS", drive.WORKLOADS)
    monkeypatch.setattr(self_tuning, "SUITES", drive.SUITES)
    monkeypatch.setattr(self_tuning, "METHODS", own)
    monkeypatch.setattr(self_tuning.baselines, "read", list)
    monkeypatch.setattr(protocol, "FOLDER", tmp_path)
    monkeypatch.setattr("eval.plan.run", run_here)
    drive.write_log(tmp_path, target=0.6)


def run_here(trials, jobs, keep, watch, lost):
    for trial in trials:
        keep(run_trial(trial, lambda step, metric, trial=trial: watch(trial, step, metric)))


def run(*arguments):
    return self_tuning.main(["--method", "nadamw", "--studies", "2", "--jobs", "1", *arguments])


def records():
    found = read(Path("runs/ablation/results.jsonl"))
    return {(record["schedule"], record["study"]): record for record in found}


# -- the command ------------------------------------------------------------------------------


def test_every_schedule_runs_once_a_study_and_is_reported(capsys):
    assert run("--ablate", ALL) == 0
    assert list(records()) == [
        *((name, study) for study in range(2) for name in ("cosine", "constant")),
        *((REFINED, study) for study in range(2)),
    ]
    out = capsys.readouterr().out
    assert "gain over cosine/none" in out
    assert "only 39 norms" in out  # one step of 40 is the warm-up
    folder = Path("runs/ablation")
    markdown = (folder / "ablation.md").read_text()
    assert "| cosine | none | - | baseline |" in markdown
    assert "| refined | tail |" in markdown
    assert "<svg" in (folder / "ablation.html").read_text()
    assert "](nadamw.svg)" in markdown
    assert (folder / "nadamw.svg").read_text().startswith("<svg")
    with (folder / "ablation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 * 2
    assert {row["steps_of_recording"] for row in rows if row["schedule"] == REFINED} == {"40"}
    assert {row["steps_of_recording"] for row in rows if row["schedule"] != REFINED} == {"0"}


def test_the_same_command_goes_on_and_another_is_refused(monkeypatch, capsys):
    def run_some(trials, *others):
        run_here(trials[:3], *others)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr("eval.plan.run", run_some)
        assert run("--ablate", ALL) == 130
    assert "3 of 6 trials are kept" in capsys.readouterr().err
    before = list(records())
    assert run("--ablate", ALL) == 0
    assert list(records())[:3] == before
    assert len(records()) == 6
    monkeypatch.setattr("eval.plan.run", lambda trials, *_: pytest.fail("ran") if trials else None)
    assert run("--ablate", ALL) == 0
    with pytest.raises(SystemExit):
        run("--ablate", "schedule=cosine; averaging=none,lawa")
    assert "runs/ablation/results.jsonl holds nadamw/cosine" in capsys.readouterr().err


def test_a_refined_schedule_added_later_has_the_recording_run_made_again(monkeypatch):
    assert run("--ablate", "schedule=cosine,constant; averaging=none") == 0
    before, made = records(), []
    monkeypatch.setattr("eval.plan.run", lambda t, *o: (made.extend(t), run_here(t, *o)))
    for _ in range(2):
        assert run("--ablate", "schedule=cosine,constant,refined; averaging=none") == 0
    assert [(trial.details["schedule"], trial.study) for trial in made] == [
        ("cosine", 0),
        ("cosine", 1),
        (REFINED, 0),
        (REFINED, 1),
    ]
    assert len(read(Path("runs/ablation/results.jsonl"))) == len(records()) == 6
    for schedule_and_study, record in before.items():
        assert records()[schedule_and_study]["curve"] == record["curve"]


def test_a_dry_run_shows_every_schedule(capsys):
    assert run("--ablate", ALL, "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.startswith("6 trials of at most 1 x step_hint, 2 studies from seed 0:\n")
    assert [line.split()[1] for line in out.splitlines()[1:4]] == [
        "nadamw/cosine",
        "nadamw/constant",
        "nadamw/refined",
    ]
    assert not Path("runs").exists()


def test_a_recording_that_failed_leaves_its_refined_cell_failed(monkeypatch, capsys):
    own = {"nadamw": Method("nadamw", "raises", "none", builds.raising)}
    monkeypatch.setattr(self_tuning, "METHODS", own)
    assert run("--ablate", "schedule=linear,refined; lr=same") == 1
    assert list(records()) == [("linear", 0), ("linear", 1)]
    captured = capsys.readouterr()
    assert "nadamw/linear, which records its norms, failed: RuntimeError" in captured.err
    assert "(2 failed)" in captured.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--ablate", "schedule=cosin"], "unknown schedule 'cosin'; did you mean cosine?"),
        (["--ablate", "averaging=swa"], "unknown averaging 'swa'"),
        (
            ["--ablate", "scheduler=cosine"],
            "unknown axis of --ablate 'scheduler'; did you mean sch",
        ),
        (["--ablate", "schedule"], "takes each axis once, as in schedule=a,b"),
        (["--ablate", "lr=same; lr=same"], "takes each axis once"),
        (["--ablate", "lr=same,transferred"], "lr is one of transferred, same"),
        (["--ablate", "", "--method", "adam"], "schedule of adam is not one of selftune's"),
        (["--ablate", "averaging=all", "--method", "free"], "evaluation weights of its own"),
    ],
)
def test_axes_that_make_no_sense_give_one_clear_error(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def ablated(method, schedule="cosine", **others):
    """The record of a cell that nobody ran."""
    record = synthetic.trial(method=f"{method}/{schedule}") | {"outcome": "done", "aim": 0.6}
    record |= {"ablated": method, "schedule": schedule, **others}
    assert problem(record) is None
    return record


def test_an_average_that_earlier_trials_did_not_have_is_empty_in_the_table(tmp_path, capsys):
    report([ablated("before")], Axes.of("schedule=cosine; averaging=none,ema"), tmp_path)
    assert "- (1 failed)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ['"><script>alert(1)</script>', "nul\0", "\ud800", "\\g<2>", "../../P", "$x_{", "a b"]
)
def test_names_in_ablated_records_stay_texts_in_the_folder_of_the_report(tmp_path, name):
    out = tmp_path / "deep" / "er"
    before = set(tmp_path.rglob("*"))
    found = [ablated(name), ablated(name, "linear", objections=[name])]
    report(found, Axes.of("schedule=cosine,linear; averaging=none"), out)
    files = {path for path in {*tmp_path.rglob("*")} - before if path.is_file()}
    assert len(files) == 4
    assert {path.parent for path in files} == {out}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text or path.suffix == ".csv"
        for identifier in re.findall(r'\bid="([^"]*)"', text):
            assert re.fullmatch(r"[\w.-]+", identifier)


# -- trials -----------------------------------------------------------------------------------


def test_the_methods_own_schedule_gives_the_methods_own_run():
    (trial,) = expanded([BASE], Axes.of("schedule=cosine; averaging=none,ema,lawa,tail"))
    record, own = run_trial(trial), run_trial(replace(BASE, target=None))
    assert record["curve"] == own["curve"]
    assert record["test"] == own["test"]
    assert not {"averages", "norms"} & own.keys()


def test_what_rides_along_changes_nothing():
    observers = Observers({"ema": EMA(), "tail": Tail()}, record_norms=True)
    trial = replace(BASE, target=None)
    record, alone = run_trial(replace(trial, observers=observers)), run_trial(trial)
    assert record["curve"] == alone["curve"]
    assert record["test"] == alone["test"]


def test_an_average_is_evaluated_as_if_its_weights_were_the_methods():
    def build(model, num_steps):
        optimizer, scheduler, _ = NADAMW.build(model, num_steps)
        average = WeightAverage(model, EMA(), total_steps=num_steps)
        average.attach(optimizer)
        return optimizer, scheduler, lambda: average.swap(model)

    trial = replace(BASE, target=None)
    theirs = run_trial(replace(trial, build=build))
    ours = run_trial(replace(trial, observers=Observers({"ema": EMA()})))["averages"]["ema"]
    assert ours["curve"] == [[step, metric] for step, _, metric in theirs["curve"]]
    assert ours["final_validation"] == theirs["final_validation"]
    assert ours["best_validation"] == theirs["best_validation"]


def test_an_average_is_not_evaluated_before_it_holds_anything():
    record = run_trial(replace(BASE, target=None, observers=Observers({"tail": Tail()})))
    steps = [step for step, _ in record["averages"]["tail"]["curve"]]
    assert steps[0] == 22
    assert steps[-1] == 40


def test_a_refined_trial_has_the_schedule_of_its_own_recording(monkeypatch):
    made = []
    monkeypatch.setattr("eval.plan.run", lambda t, *o: (made.extend(t), run_here(t, *o)))
    run("--ablate", "schedule=refined,cosine; averaging=none")
    refined = [trial for trial in made if trial.details["schedule"] == REFINED]
    assert [trial.study for trial in refined] == [0, 1]
    for trial in refined:
        assert isinstance(trial.build, WithSchedule)
        log = from_json(records()["cosine", trial.study]["norms"])
        assert log.total_steps == 40
        assert trial.build.schedule.to_dict() == refine(log, warmup=1).to_dict()
        assert trial.build.schedule.warmup_steps == trial.build.tuned_with.warmup_steps == 1  # pyright: ignore


def test_a_recording_run_is_made_where_none_is_asked_for():
    trials = expanded([BASE], Axes.of("schedule=refined"))
    assert [trial.details["schedule"] for trial in trials] == ["linear", REFINED]
    assert [trial.observers.record_norms for trial in trials] == [True, False]


def test_schedules_get_their_peak_from_the_methods_own():
    trials = expanded([BASE], Axes.of("schedule=cosine,linear"))
    own = cosine(40).with_warmup(1)
    to = with_warmup("linear", 40)
    peaks = [trial.build.at_its_peak(1) for trial in trials]  # pyright: ignore
    assert peaks[0] == own(1)
    assert peaks[1] == pytest.approx(transfer_lr(1.0, own, to) * to(1))
    (same,) = expanded([BASE], Axes.of("schedule=linear; lr=same"))
    assert same.build.at_its_peak == to  # pyright: ignore


def test_schedules_warm_up_as_the_methods_own():
    def longer(model, num_steps):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        steps = 2 * num_steps
        return optimizer, ScheduleLR(optimizer, cosine(steps).with_warmup(steps // 10)), None

    def without(model, num_steps):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return optimizer, LambdaLR(optimizer, linear(num_steps)), None

    for build, rungs in ((longer, 4), (without, 0)):
        (trial,) = expanded([replace(BASE, build=build)], Axes.of("schedule=linear"))
        assert trial.build.schedule == linear(40).with_warmup(rungs)  # pyright: ignore


def test_a_methods_schedule_is_seen_on_the_workloads_own_model():
    def for_batch_norm(model, num_steps):
        (norm,) = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)]
        optimizer = torch.optim.SGD(norm.parameters(), lr=0.1)
        return optimizer, ScheduleLR(optimizer, linear(num_steps)), None

    (trial,) = expanded([replace(BASE, build=for_batch_norm)], Axes.of("schedule=linear"))
    assert trial.build.schedule == linear(40).with_warmup(0)  # pyright: ignore


def test_a_method_that_cannot_be_built_gives_one_clear_error():
    def for_convolutions(model, num_steps):
        raise IndexError("there is no convolution\nhere")

    with pytest.raises(ValueError) as caught:
        expanded([replace(BASE, build=for_convolutions)], Axes.of("schedule=linear"))
    assert str(caught.value) == (
        "nadamw cannot be built for late_flights, to see its schedule: "
        "IndexError: there is no convolution"
    )


def test_the_peak_lr_starts_from_the_methods_own_and_not_from_its_warm_up():
    model = torch.nn.Linear(1, 1)
    optimizer, _, _ = WithSchedule(NADAMW.build, linear(100), None)(model, 100)
    assert optimizer.param_groups[0]["lr"] == optimizer.defaults["lr"]


def test_trials_travel_to_other_processes():
    for trial in expanded([BASE], Axes.of(ALL)):
        assert pickle.loads(pickle.dumps(trial)) == trial


def test_norms_come_back_from_json_as_they_went_but_for_rounding():
    norms = {"l2": np.array([1 / 3, nan]), "weight": np.array([1.0, 2.0])}
    log = NormLog(np.array([0, 4]), norms, np.array([0.1, 0.2]), 0.3, "NAdamW", total_steps=8)
    back = from_json(to_json(log))
    assert (back.weight_decay, back.optimizer, back.total_steps) == (0.3, "NAdamW", 8)
    assert back.steps.tolist() == [0, 4]
    assert back.norms["l2"][0] == 0.333333
    assert isnan(back.norms["l2"][1])


# -- cells and tables -------------------------------------------------------------------------


def cell(schedule: str, finals: list[float], **changes) -> Cell:
    studies = dict(enumerate(finals))
    return Cell(
        **{
            "method": "nadamw",
            "workload": "late_flights",
            "schedule": schedule,
            "average": "none",
            "finals": studies,
            "tests": studies,
            "steps_to_aim": dict.fromkeys(studies, 0.5),
            "recording": 0.0,
            "rules": {"higher_is_better": False},
            **changes,
        }
    )


def test_a_gain_is_positive_where_the_metric_is_better():
    base, better = cell("cosine", [0.5, 0.6, 0.7]), cell("linear", [0.4, 0.49, 0.61])
    gain = better.gain(base)
    assert gain is not None
    assert gain.mean == pytest.approx(0.1)
    assert gain.clear
    rules = {"higher_is_better": True}
    gain = replace(better, rules=rules).gain(replace(base, rules=rules))
    assert gain is not None
    assert gain.mean == pytest.approx(-0.1)


def test_a_cell_whose_studies_all_failed_has_no_metric():
    rows = grid([cell("cosine", [0.5, nan]), cell("linear", [nan, nan])], "nadamw")
    texts = [row[-1].text for row in metrics_table("nadamw", rows).rows]
    assert texts == ["0.5 (1 failed)", "- (2 failed)"]


def test_a_failed_study_is_compared_with_nothing_and_said():
    rows = grid([cell("cosine", [0.5, 0.6]), cell("linear", [0.4, nan])], "nadamw")
    assert gains_table("nadamw", rows).rows[1][-1].text == "- (1 failed)"


def test_the_table_counts_on_how_many_workloads_a_difference_is_clear():
    both = [
        cell(name, finals, workload=workload)
        for workload, gain in (("a", 0.1), ("b", -0.1), ("c", 0.0))
        for name, finals in (
            ("cosine", [0.5, 0.6, 0.7]),
            ("linear", [0.5 - gain, 0.6 - gain, 0.7 - gain + 0.01]),
        )
    ]
    table = gains_table("nadamw", grid(both, "nadamw"))
    assert [text.text for text in table.rows[0][2:]] == ["-", *["baseline"] * 3]
    assert table.rows[1][2].text == "1 / 1"
    assert [text.best for text in table.rows[1][3:]] == [True, False, False]


def test_steps_to_the_target_are_shown_without_and_with_the_recording_run():
    rows = grid(
        [
            cell("cosine", [0.5, 0.5, 0.5], steps_to_aim={0: 0.9, 1: inf, 2: 0.7}),
            cell(REFINED, [0.5], recording=1.0, steps_to_aim={0: 0.6}),
            cell("constant", [0.5], steps_to_aim={0: inf}),
        ],
        "nadamw",
    )
    assert [row[-1].text for row in steps_table("nadamw", rows).rows] == [
        "0.90",
        "0.60 (1.60)",
        "-",
    ]


def test_cells_are_read_from_records_at_every_average():
    axes = Axes.of("schedule=cosine,linear; averaging=none,ema")
    aim = run_trial(replace(BASE, target=None))["curve"][10][2]
    found = [run_trial(trial) for trial in expanded([replace(BASE, target=aim)], axes)]
    plain, average, *_ = cells(found, axes)
    assert (plain.schedule, plain.average, average.average) == ("cosine", "none", "ema")
    assert plain.finals == {0: found[0]["final_validation"]}
    assert average.finals == {0: found[0]["averages"]["ema"]["final_validation"]}
    first = next(step for step, _, metric in found[0]["curve"] if metric <= aim)
    assert plain.steps_to_aim == {0: first / 40}
