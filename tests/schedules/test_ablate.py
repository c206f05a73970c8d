"""ablate: pairs by seed, averages that ride along, resuming, and what it refuses."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from selftune.ablation.paired_difference import Difference
from selftune.averaging import EMA, Tail
from selftune.schedules import (
    NormLog,
    Run,
    ablate,
    constant,
    inverse_sqrt,
    linear,
    refine,
    transfer_lr,
    wsd,
)

T = 12
SCHEDULES = {"linear": linear(T), "constant": constant(T)}
AVERAGES = {"tail": Tail()}
REPOSITORY = Path(__file__).parents[2]


class Training:
    """A noisy quadratic; remembers which runs it made, and can be made to fail."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.runs: list[Run] = []
        self.fail_at = fail_at

    def __call__(self, run: Run) -> dict[str, float]:
        if len(self.runs) == self.fail_at:
            raise KeyboardInterrupt
        self.runs.append(run)
        generator = torch.Generator().manual_seed(run.seed)
        model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
        torch.nn.init.ones_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        scheduler = run.start(model, optimizer)
        for _ in range(run.total_steps):
            noise = torch.randn(1, 3, generator=generator, dtype=torch.float64)
            model.weight.grad = model.weight.detach() + noise
            optimizer.step()
            scheduler.step()
        return run.judge(lambda: model.weight.detach().square().sum().item())

    @property
    def keys(self) -> list[tuple[float, int]]:
        return [(run.schedule.factors().min(), run.seed) for run in self.runs]


# -- what is compared -------------------------------------------------------------------------


def test_every_schedule_trains_once_a_seed_and_averages_ride_along():
    training = Training()
    table = ablate(training, SCHEDULES, AVERAGES, seeds=2)
    last = linear(T).factors().min()
    assert training.keys == [(last, 0), (1.0, 0), (last, 1), (1.0, 1)]
    assert [(cell.schedule, cell.average) for cell in table.cells] == [
        ("linear", "none"),
        ("linear", "tail"),
        ("constant", "none"),
        ("constant", "tail"),
    ]


def test_averages_leave_the_last_weights_as_they_are_without_them():
    with_averages = ablate(Training(), SCHEDULES, {"tail": Tail(), "ema": EMA(half_life=3)})
    without = ablate(Training(), SCHEDULES)
    for name in SCHEDULES:
        assert with_averages.cell(name).values == without.cell(name).values
        assert with_averages.cell(name, "tail").values != without.cell(name).values


def test_differences_are_those_of_runs_with_equal_seeds():
    table = ablate(Training(), SCHEDULES, seeds=[3, 7, 11])
    assert table.seeds == (3, 7, 11)
    first, other = table.cells
    assert first.difference is None
    assert other.difference is not None
    expected = [mine - its for mine, its in zip(other.values, first.values, strict=True)]
    assert other.difference.mean == pytest.approx(sum(expected) / 3)
    interval = stats.ttest_1samp(expected, 0.0).confidence_interval(0.95)
    assert other.difference.mean - other.difference.margin == pytest.approx(interval.low)
    assert other.difference.mean + other.difference.margin == pytest.approx(interval.high)


def test_a_verdict_needs_an_interval_without_zero_and_knows_which_way_is_better():
    def train(run: Run) -> float:
        gain = {0.0: 0.0, 1.0: 5.0, 0.5: 0.1}[run.schedule(T)]
        return gain + 0.01 * run.seed * (1 if gain != 0.1 else (-1) ** run.seed * 40)

    schedules = {"linear": linear(T), "constant": constant(T), "half": 0.5 * constant(T)}
    lower = ablate(train, schedules)
    assert [lower.verdict(cell) for cell in lower.cells] == ["", "worse", ""]
    higher = ablate(train, schedules, higher_is_better=True)
    assert [higher.verdict(cell) for cell in higher.cells] == ["", "better", ""]


def test_one_seed_gives_no_interval_and_no_verdict():
    table = ablate(Training(), SCHEDULES, seeds=1)
    cell = table.cell("constant")
    assert cell.difference is not None
    assert math.isinf(cell.difference.margin)
    assert table.verdict(cell) == ""
    assert "±" not in str(table)
    assert "shows no spread" in str(table)


def test_a_run_that_diverged_is_shown_and_compared_with_nothing(tmp_path):
    def train(run: Run) -> float:
        return math.nan if run.schedule(T) == 1 and run.seed == 1 else run.seed + 1.0

    for _ in range(2):  # made, and read back
        table = ablate(train, SCHEDULES, out=tmp_path)
        assert table.cell("constant").diverged == 1
        assert table.cell("constant").difference is None
        assert "(1 diverged)" in str(table)
        table.picture()


def test_a_learning_rate_tuned_with_one_schedule_is_transferred_to_the_others():
    training = Training()
    schedules = {"linear": linear(T), "wsd": wsd(T)}
    ablate(training, schedules, seeds=1, tuned_with="linear", refine_from="linear")
    peaks = [run.schedule.factors().max() for run in training.runs]
    refined = training.runs[2].schedule
    shape = refined * (1 / peaks[2])
    assert peaks[0] == 1
    assert peaks[1] == pytest.approx(transfer_lr(1.0, linear(T), wsd(T)))
    assert peaks[2] == pytest.approx(transfer_lr(1.0, linear(T), shape))


# -- refinement -------------------------------------------------------------------------------


def test_each_seed_is_refined_from_its_own_recording(tmp_path):
    training = Training()
    ablate(training, SCHEDULES, seeds=2, refine_from="constant", out=tmp_path)
    refined = [run for run in training.runs if run.schedule not in SCHEDULES.values()]
    assert [run.seed for run in refined] == [0, 1]
    for run in refined:
        log = NormLog.load(tmp_path / f"norms-constant-{run.seed}.csv.gz")
        assert log.total_steps == T
        assert run.schedule.to_dict() == refine(log).to_dict()
    assert refined[0].schedule != refined[1].schedule


def test_a_refined_schedule_keeps_the_warm_up_of_the_one_that_recorded(tmp_path):
    training = Training()
    warmed_up = {"linear": linear(T).with_warmup(0.1)}
    ablate(training, warmed_up, seeds=1, refine_from="linear", out=tmp_path)
    log = NormLog.load(tmp_path / "norms-linear-0.csv.gz")
    assert training.runs[-1].schedule.to_dict() == refine(log, warmup=T // 10).to_dict()


def test_steps_that_were_skipped_in_the_recording_run_do_not_shorten_the_refined_one():
    lengths = []

    def train(run: Run) -> float:
        model = torch.nn.Linear(3, 1, bias=False)
        scheduler = run.start(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for step in range(run.total_steps):
            model.weight.grad = torch.ones_like(model.weight)
            if step != 2:  # as a GradScaler does
                scheduler.optimizer.step()
            scheduler.step()
        lengths.append(run.total_steps)
        return 1.0

    ablate(train, {"linear": linear(T)}, seeds=1, refine_from="linear")
    assert lengths == [T, T]


def test_the_recording_run_is_counted_both_ways():
    table = ablate(Training(), SCHEDULES, refine_from="linear")
    assert (table.cell("refined").steps, table.cell("refined").to_record) == (T, T)
    assert table.cell("linear").to_record == 0
    assert f"{T} (+{T})" in str(table)
    assert "recorded the norms" in str(table)


def test_a_recording_run_that_diverged_costs_its_refined_cell_and_no_other(tmp_path, capsys):
    def train(run: Run) -> dict[str, float]:
        model = torch.nn.Linear(3, 1, bias=False)
        scheduler = run.start(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for _ in range(run.total_steps):
            value = math.nan if run.seed == 1 else 1.0
            model.weight.grad = torch.full_like(model.weight, value)
            scheduler.optimizer.step()
            scheduler.step()
        return run.judge(lambda: model.weight.detach().square().sum().item())

    options = {"seeds": 2, "refine_from": "linear", "out": tmp_path}
    table = ablate(train, SCHEDULES, AVERAGES, **options)
    for average in ("none", "tail"):
        first, second = table.cell("refined", average).values
        assert math.isfinite(first)
        assert math.isnan(second)
    assert "refined, seed 1, is not trained: " in capsys.readouterr().err
    assert str(ablate(train, SCHEDULES, AVERAGES, **options)) == str(table)


# -- resuming ---------------------------------------------------------------------------------


def test_an_interrupted_ablation_goes_on_where_it_was(tmp_path):
    options = {"seeds": 2, "refine_from": "linear"}
    whole = ablate(Training(), SCHEDULES, AVERAGES, **options)
    with pytest.raises(KeyboardInterrupt):
        ablate(Training(fail_at=5), SCHEDULES, AVERAGES, **options, out=tmp_path)
    rest = Training()
    table = ablate(rest, SCHEDULES, AVERAGES, **options, out=tmp_path)
    assert len(rest.runs) == 1  # the refined one of seed 1, from norms that were kept
    assert table == whole


def resumed_without_the_last(count, folder):
    """An ablation whose file lost some bytes at its end, made again; the file before and after."""
    ablate(Training(), SCHEDULES, seeds=2, out=folder)
    path = folder / "outcomes.jsonl"
    before = path.read_bytes()
    path.write_bytes(before[:-count])
    again = Training()
    ablate(again, SCHEDULES, seeds=2, out=folder)
    return again, before, path.read_bytes()


def test_a_line_cut_in_two_costs_its_run_and_no_other(tmp_path):
    again, _, after = resumed_without_the_last(20, tmp_path)
    assert again.keys == [(1.0, 1)]
    assert [json.loads(line)["seed"] for line in after.splitlines()] == [0, 0, 1, 1]


def test_a_whole_line_without_its_newline_is_kept(tmp_path):
    again, before, after = resumed_without_the_last(1, tmp_path)
    assert again.runs == []
    assert after == before


def test_two_ablations_do_not_write_into_one_folder(tmp_path):
    def train(run: Run) -> float:
        with pytest.raises(ValueError, match=r"outcomes\.jsonl is being written by another"):
            ablate(lambda run: 0.0, SCHEDULES, seeds=1, out=tmp_path)
        return 1.0 + run.schedule(0)

    table = ablate(train, SCHEDULES, seeds=1, out=tmp_path)
    assert [cell.values for cell in table.cells] == [(2.0,), (2.0,)]
    again = ablate(lambda run: math.nan, SCHEDULES, seeds=1, out=tmp_path)
    assert again == table


def test_more_seeds_and_schedules_can_be_added_later(tmp_path):
    ablate(Training(), SCHEDULES, seeds=1, out=tmp_path)
    more = Training()
    ablate(more, {**SCHEDULES, "wsd": wsd(T)}, seeds=2, out=tmp_path)
    assert len(more.runs) == 4
    fewer = Training()
    table = ablate(fewer, SCHEDULES, seeds=1, out=tmp_path)
    assert fewer.runs == []
    assert len(table.cells) == 2


def test_a_refined_schedule_added_later_has_the_recording_run_made_again(tmp_path):
    ablate(Training(), SCHEDULES, seeds=2, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ablate(Training(fail_at=1), SCHEDULES, seeds=2, refine_from="linear", out=tmp_path)
    rest = Training()
    table = ablate(rest, SCHEDULES, seeds=2, refine_from="linear", out=tmp_path)
    assert [run.seed for run in rest.runs] == [0, 1, 1]  # linear of seed 0 has its norms by now
    assert table == ablate(Training(), SCHEDULES, seeds=2, refine_from="linear")
    rest = Training()
    assert ablate(rest, SCHEDULES, seeds=2, refine_from="linear", out=tmp_path) == table
    assert rest.runs == []


def test_norms_of_one_schedule_do_not_serve_for_another(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        ablate(Training(fail_at=2), SCHEDULES, seeds=1, refine_from="linear", out=tmp_path)
    table = ablate(Training(), SCHEDULES, seeds=1, refine_from="constant", out=tmp_path)
    assert table == ablate(Training(), SCHEDULES, seeds=1, refine_from="constant")


@pytest.mark.parametrize("seeds", [np.arange(2), np.int64(2), (np.int32(0), 1)])
def test_seeds_may_be_integers_of_numpy(seeds, tmp_path):
    training = Training()
    table = ablate(training, SCHEDULES, seeds=seeds, out=tmp_path)
    assert table.seeds == (0, 1)
    assert all(type(run.seed) is int for run in training.runs)
    again = Training()
    assert ablate(again, SCHEDULES, seeds=2, out=tmp_path) == table
    assert again.runs == []


@pytest.mark.parametrize(
    ("schedules", "averages"),
    [
        ({"linear": linear(T + 1)}, {}),
        ({"linear": linear(T)}, AVERAGES),
    ],
)
def test_outcomes_of_other_options_are_refused_and_kept(tmp_path, schedules, averages):
    ablate(Training(), {"linear": linear(T)}, seeds=1, out=tmp_path)
    before = (tmp_path / "outcomes.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds outcomes of 'linear' with other options") as error:
        ablate(Training(), schedules, averages, seeds=1, out=tmp_path)
    assert "\n" not in str(error.value)
    assert (tmp_path / "outcomes.jsonl").read_bytes() == before


@pytest.mark.parametrize("change", [{"metrics": None}, {"metrics": {"none": "low"}}, {"seed": []}])
def test_a_file_of_something_else_is_refused_and_kept(tmp_path, change):
    ablate(Training(), SCHEDULES, seeds=1, out=tmp_path)
    path = tmp_path / "outcomes.jsonl"
    first, *others = path.read_text().splitlines()
    for line in ('{"schedule": "linear"}', "[" * 100_000, json.dumps(json.loads(first) | change)):
        path.write_text("\n".join([line, *others]) + "\n")
        before = path.read_bytes()
        with pytest.raises(ValueError, match="line 1 is not an outcome"):
            ablate(Training(), SCHEDULES, out=tmp_path)
        assert path.read_bytes() == before


# -- what is said -----------------------------------------------------------------------------


def test_progress_is_a_line_a_run(capsys):
    ablate(Training(), SCHEDULES, AVERAGES, seeds=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/2] linear, seed 0: none ")
    assert "tail" in lines[0]
    assert "left" in lines[0]
    assert lines[1].startswith("[2/2] constant, seed 0")


def test_table_and_picture_come_to_lie_beside_the_outcomes(tmp_path):
    table = ablate(Training(), SCHEDULES, AVERAGES, out=tmp_path)
    assert (tmp_path / "table.md").read_text() == table.markdown() + "\n"
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    for cell in table.cells:
        assert f"| {cell.schedule} | {cell.average} |" in table.markdown()


def test_a_margin_has_two_digits():
    assert str(Difference(0.123456, 0.0123)) == "+0.123 ± 0.012"
    assert str(Difference(-5.0, 12.3)) == "-5 ± 12"
    assert str(Difference(0.0, 0.0)) == "+0.0000 ± 0.0000"
    assert str(Difference(0.25, math.inf)) == "+0.25"


def test_the_example_compares_schedules_on_real_images(tmp_path):
    script = REPOSITORY / "examples" / "ablation.py"
    command = [sys.executable, str(script), str(tmp_path), "50", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "[5/5] refined" in result.stderr
    assert "refined   tail" in result.stdout
    assert (tmp_path / "picture.png").exists()


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedules": {}}, "at least one schedule"),
        ({"schedules": {"anytime": inverse_sqrt(10)}}, "'anytime' has no end"),
        ({"refine_from": "cosine"}, "refine_from is one of the schedules linear, constant, got"),
        ({"tuned_with": "cosine"}, "tuned_with is one of the schedules"),
        ({"averages": {"none": Tail()}}, "'none' is the name of the last weights"),
        (
            {"schedules": {"refined": linear(T)}, "refine_from": "refined"},
            "'refined' is the name of the refined schedule",
        ),
        ({"schedules": [linear(T)]}, "schedules are given by name"),
        ({"averages": [Tail()]}, "averages are given by name"),
        ({"seeds": 0}, "seeds must be at least one"),
        ({"seeds": [1, 1]}, "all different"),
        ({"seeds": 2.5}, "seeds must be whole numbers, or how many, got 2.5"),
        ({"seeds": [0.5]}, r"seeds must be whole numbers, or how many, got \[0.5\]"),
    ],
)
def test_what_cannot_be_compared_gives_one_clear_error(options, message, tmp_path):
    training = Training()
    with pytest.raises(ValueError, match=message):
        ablate(training, **{"schedules": SCHEDULES, "out": tmp_path / "out", **options})
    assert training.runs == []
    assert not (tmp_path / "out").exists()


def test_train_must_judge_at_every_average():
    with pytest.raises(ValueError, match=r"must return run.judge.* for none, tail; got none"):
        ablate(lambda run: 1.0, SCHEDULES, AVERAGES)


@pytest.mark.parametrize("returned", [None, [1.0], "low"])
def test_train_must_return_a_metric(returned):
    with pytest.raises(ValueError, match=r"must return run.judge.* for none; got"):
        ablate(lambda run: returned, SCHEDULES, seeds=1)


def test_a_schedule_that_train_does_not_use_is_noticed():
    with pytest.raises(ValueError, match=r"or follow run.schedule: it did neither"):
        ablate(lambda run: float(run.seed), SCHEDULES)


def test_train_must_start_a_run_whose_norms_are_recorded():
    with pytest.raises(ValueError, match=r"must call run.start"):
        ablate(lambda run: 1.0, SCHEDULES, refine_from="linear")


def test_a_run_is_started_once_and_before_it_is_judged():
    def judge(run: Run):
        return run.judge(lambda: 0.0)

    def start_twice(run: Run):
        model = torch.nn.Linear(1, 1)
        for _ in range(2):
            run.start(model, torch.optim.SGD(model.parameters(), lr=0.1))

    with pytest.raises(RuntimeError, match=r"judge.* needs start"):
        ablate(judge, SCHEDULES)
    with pytest.raises(RuntimeError, match="was called before"):
        ablate(start_twice, SCHEDULES)


def training(
    steps: int = T, scheduled: bool = True, optimized: bool = True, metric: float = 1.0
) -> Callable[[Run], float]:
    def train(run: Run) -> float:
        torch.manual_seed(run.seed)
        model = torch.nn.Linear(1, 1)
        scheduler = run.start(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for _ in range(steps):
            if optimized:
                scheduler.optimizer.step()
            if scheduled:
                scheduler.step()
        return metric

    return train


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (training(scheduled=False), "made 12 steps and never called step"),
        (
            training(steps=T - 3),
            "9 times, in 9 steps .* has 12 steps",
        ),
        (training(steps=T + 3), "15 times"),
    ],
)
def test_a_schedule_that_is_not_followed_to_its_end_is_noticed(train, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ablate(train, SCHEDULES, out=tmp_path)
    assert (tmp_path / "outcomes.jsonl").read_text() == ""


def test_a_run_that_diverged_may_stop_early():
    assert ablate(training(steps=3, metric=math.nan), SCHEDULES).cells[0].diverged == 3


def test_a_seed_that_nothing_reads_is_noticed_where_there_are_several():
    with pytest.raises(ValueError, match=r"never read run\.seed: seed the model"):
        ablate(lambda run: run.schedule(1), SCHEDULES)
    assert ablate(lambda run: run.schedule(1), SCHEDULES, seeds=1).seeds == (0,)


def test_seeds_that_make_no_difference_are_remarked_on():
    assert "does train use run.seed?" in ablate(training(), SCHEDULES).caption()


@pytest.mark.parametrize("name", ["../../P", "/etc/P", "a\nb", "x" * 400, "$a$", "\ud800", "a|<b>"])
def test_any_name_of_a_schedule_stays_within_the_folder_and_on_its_line(name, tmp_path):
    schedules = {name: linear(T), "constant": constant(T)}
    out = tmp_path / "out"
    table = ablate(Training(), schedules, seeds=1, refine_from=name, out=out)
    assert list(tmp_path.iterdir()) == [out]
    assert {path.parent for path in out.rglob("*")} == {out}
    assert len(str(table).splitlines()) == len(ablate(Training(), SCHEDULES, seeds=1).cells) + 4
    text = (out / "table.md").read_text(encoding="utf-8")
    assert all(line.count(" | ") == 5 for line in text.splitlines() if line.startswith("|"))
    assert "<b>" not in text
    again = Training()
    ablate(again, schedules, seeds=1, refine_from=name, out=out)
    assert again.runs == []


@pytest.mark.parametrize("fails", [False, True])
def test_an_optimizer_that_serves_all_runs_is_followed_by_one_at_a_time(fails):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks

    def train(run):
        torch.manual_seed(run.seed)
        optimizer.param_groups[0].pop("initial_lr", None)
        scheduler = run.start(model, optimizer)
        assert len(hooks[1]) < 5  # a run's own, and not those of runs before it
        for _ in range(run.total_steps):
            model.weight.grad = torch.randn_like(model.weight)
            optimizer.step()
            scheduler.step()
        if fails:
            raise RuntimeError("no more")
        return run.judge(lambda: model.weight.detach().sum().item())

    with pytest.raises(RuntimeError, match="no more") if fails else nullcontext():
        ablate(train, SCHEDULES, AVERAGES, seeds=2, refine_from="constant")
    assert not any(hooks)


def test_a_train_that_changes_its_folder_does_not_lose_its_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = Training()

    def train(run):
        folder = tmp_path / "runs" / str(len(training.runs))
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        return training(run)

    ablate(train, SCHEDULES, AVERAGES, seeds=2, refine_from="constant", out="ablation")
    assert (tmp_path / "ablation" / "table.md").exists()
    assert NormLog.load(tmp_path / "ablation" / "norms-constant-1.csv.gz").total_steps == T
