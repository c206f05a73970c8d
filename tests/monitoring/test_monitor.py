"""Monitor: what it measures, where that goes, and that training does not notice."""

import copy
import csv
import gc
import logging
import math
import sys
import weakref

import pytest
import torch

import selftune
from benchmarks.conformance.problem import AroundOurs, AroundTorchs, take_step, train, weights
from selftune import Monitor, optim

OURS = [
    *(value for value in vars(optim).values() if isinstance(value, type)),
    AroundTorchs,
    AroundOurs,
]
OURS = [cls for cls in OURS if cls not in (optim.Optimizer, optim.ScheduleFree)]
TORCHS = [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop]
every_optimizer = pytest.mark.parametrize("cls", OURS + TORCHS, ids=lambda cls: cls.__name__)
EVALUATED_AT_AN_AVERAGE = [cls for cls in OURS if cls(weights()).averages]


@every_optimizer
def test_training_is_the_same_with_a_monitor_bit_for_bit(cls):
    runs = []
    for watched in (False, True):
        params = weights(torch.bfloat16)
        optimizer = cls(params)
        if watched:
            Monitor(optimizer, every=2)
        train(optimizer, range(7))
        runs.append((params, optimizer.state_dict()["state"]))
    (plain, _), (watched, _) = runs
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


@every_optimizer
def test_every_row_says_what_the_step_was(cls):
    params = weights(torch.float64)
    optimizer = cls(params)
    monitor = Monitor(optimizer, every=3)
    train(optimizer, range(5))
    before = [p.detach().clone() for p in params]
    train(optimizer, [5])
    change = torch.cat([(p.detach() - b).flatten() for p, b in zip(params, before, strict=True)])
    size = torch.cat([b.flatten() for b in before]).norm()
    grad = torch.cat([p.grad.flatten() for p in params]).norm()
    assert [row["step"] for row in monitor.rows] == [3, 6]
    row = monitor.rows[-1]
    assert row["update_ratio"] == pytest.approx((change.norm() / size).item(), rel=1e-6)
    assert row["gradient_norm"] == pytest.approx(grad.item(), rel=1e-6)
    assert row["skipped_steps"] == 0
    known = optimizer.step_size() if cls in OURS else [optimizer.param_groups[0]["lr"]]
    assert row["step_size"] == pytest.approx(known[0])
    d = optimizer.param_groups[0].get("d")
    assert ("d" in row) == (d is not None)
    assert d is None or row["d"] == pytest.approx(float(d))


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_the_distance_from_the_average_is_that_of_the_two_kinds_of_weights(cls):
    params = weights(torch.float64)
    optimizer = cls(params)
    monitor = Monitor(optimizer, every=8)
    train(optimizer, range(8))
    if cls not in EVALUATED_AT_AN_AVERAGE:
        assert "distance_from_average" not in monitor.rows[0]
        return
    y = torch.cat([p.detach().flatten() for p in params]).clone()
    with optimizer.evaluation_weights():
        x = torch.cat([p.detach().flatten() for p in params]).clone()
    expected = ((y - x).norm() / x.norm()).item()
    assert expected > 0
    assert monitor.rows[0]["distance_from_average"] == pytest.approx(expected, rel=1e-6)


def test_the_other_weights_are_known_at_the_evaluation_weights_too():
    for cls in EVALUATED_AT_AN_AVERAGE:
        params = weights(torch.float64)
        optimizer = cls(params)
        train(optimizer, range(4))
        y = [p.detach().clone() for p in params]
        optimizer.eval()
        for p, expected in zip(params, y, strict=True):
            found = optimizer.other_weights(p, optimizer.param_groups[0])
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_step_from_the_evaluation_weights_of_an_attached_model_has_its_own_change():
    model = torch.nn.Linear(2, 1)
    optimizer = optim.ScheduleFreeAdamW(model.parameters())
    monitor = Monitor(optimizer, every=1)  # its hooks come before those of `attach`
    selftune.attach(model, optimizer)
    ratios = []
    for evaluated_between in (False, True):
        torch.manual_seed(0)
        with torch.no_grad():
            model.eval() if evaluated_between else model.train()
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        ratios.append(monitor.rows[-1]["update_ratio"])
    assert ratios[1] == pytest.approx(ratios[0], abs=1e-6)


@pytest.mark.parametrize("place", ["closure", "before"])
def test_gradients_are_those_that_the_step_used(place):
    p = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = optim.AdamW([p])
    monitor = Monitor(optimizer, every=1)

    def closure():
        optimizer.zero_grad()
        loss = 0.5 * p.square().sum()
        loss.backward()
        return loss

    if place == "before":
        closure()
    optimizer.step(closure if place == "closure" else None)
    assert monitor.rows[0]["gradient_norm"] == pytest.approx(5.0)


def test_groups_have_their_own_step_sizes():
    one, two = weights()[:2]
    optimizer = torch.optim.SGD([{"params": [one], "lr": 0.5}, {"params": [two], "lr": 0.25}])
    monitor = Monitor(optimizer, every=1)
    train(optimizer, [0])
    assert (monitor.rows[0]["step_size/0"], monitor.rows[0]["step_size/1"]) == (0.5, 0.25)


def test_a_skipped_step_is_in_its_row():
    params = weights()
    optimizer = optim.Prodigy(params)
    monitor = Monitor(optimizer, every=1)
    train(optimizer, [0])
    params[0].grad = torch.full_like(params[0], math.nan)
    with pytest.warns(UserWarning, match="skipped a step"):
        take_step(optimizer)
    assert [row["skipped_steps"] for row in monitor.rows] == [0, 1]
    assert math.isnan(monitor.rows[1]["gradient_norm"])
    assert monitor.rows[1]["update_ratio"] == 0


def test_a_step_without_gradients_has_no_gradient_norm():
    optimizer = optim.SelfTune(weights())
    monitor = Monitor(optimizer, every=1)
    optimizer.step()
    assert math.isnan(monitor.rows[0]["gradient_norm"])


def test_between_two_measurements_nothing_is_read_or_copied(monkeypatch):
    params = weights()
    optimizer = torch.optim.SGD(params)
    Monitor(optimizer, every=1000)
    train(optimizer, [0])

    def refuse(*_, **__):
        raise AssertionError("read from the device")

    for name in ("item", "tolist", "clone", "__bool__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    optimizer.step()


def table(file):
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.mark.parametrize(("cls", "made"), [(optim.Prodigy, {}), (optim.DoG, {"made": 4})])
def test_the_steps_before_a_checkpoint_count(cls, made, tmp_path):
    optimizer = cls(weights())
    file = tmp_path / "run" / "optimizer.csv"
    Monitor(optimizer, to=file, every=2)
    train(optimizer, range(4))
    saved = copy.deepcopy(optimizer.state_dict())
    train(optimizer, range(4, 6))  # after the checkpoint, and lost
    resumed = cls(weights())
    resumed_monitor = Monitor(resumed, to=str(file), every=2, **made)
    resumed.load_state_dict(saved)
    train(resumed, range(4, 8))
    assert [row["step"] for row in resumed_monitor.rows] == [6, 8]
    rows = table(file)
    assert [float(row["step"]) for row in rows] == [2, 4, 6, 8]
    assert float(rows[-1]["step_size"]) == resumed_monitor.rows[-1]["step_size"]


def test_a_csv_file_takes_new_columns(tmp_path):
    one, two = weights()[:2]
    optimizer = torch.optim.SGD([one], lr=0.5)
    Monitor(optimizer, to=tmp_path / "o.csv", every=1)
    train(optimizer, [0])
    optimizer.add_param_group({"params": [two]})
    train(optimizer, [1])
    rows = table(tmp_path / "o.csv")
    assert [row["step_size/1"] for row in rows] == ["", "0.5"]
    assert [row["step_size"] for row in rows] == ["0.5", ""]


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    file = tmp_path / "notes.csv"
    file.write_text("a,b\n1,2\n")
    optimizer = torch.optim.SGD(weights())
    Monitor(optimizer, to=file, every=1)
    with pytest.raises(ValueError, match="no column 'step'"):
        train(optimizer, [0])
    assert file.read_text() == "a,b\n1,2\n"


class Writer:
    def __init__(self):
        self.calls = []

    def add_scalar(self, *args):
        self.calls.append(args)


class Run:
    def __init__(self):
        self.calls = []

    def log(self, values):
        self.calls.append(values)


def test_tensorboard_and_wandb_get_scalars_under_one_prefix():
    writer, run = Writer(), Run()
    for to in (writer, run):
        optimizer = optim.AdamW(weights())
        Monitor(optimizer, to=to, every=2)
        train(optimizer, range(2))
    scalars = {name: value for name, value, step in writer.calls if step == 2}
    assert scalars["optimizer/step_size"] == pytest.approx(1e-3)
    assert run.calls == [{**scalars, "optimizer/step": 2.0}]


def test_a_function_gets_the_row():
    rows = []
    optimizer = optim.AdamW(weights())
    monitor = Monitor(optimizer, to=rows.append, every=1)
    train(optimizer, [0])
    assert rows == monitor.rows
    assert len(rows) == 1


def test_a_closed_monitor_measures_no_more():
    optimizer = optim.AdamW(weights())
    with Monitor(optimizer, every=1) as monitor:
        train(optimizer, [0])
    train(optimizer, [1])
    assert len(monitor.rows) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every must be 1 or more, got 0"),
        ({"made": -1}, "made must be 0 or more, got -1"),
        ({"to": 3}, "a wandb run, got a int"),
        ({"to": logging.getLogger("x")}, "to=logger.info"),
        ({"optimizer": torch.nn.Linear(1, 1)}, "expected a torch optimizer, got a Linear"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Monitor(**{"optimizer": torch.optim.SGD(weights()), **arguments})


def test_the_plot_has_a_panel_for_each_kind_of_number():
    optimizer = optim.ScheduleFreeProdigy(weights())
    monitor = Monitor(optimizer, every=1)
    with pytest.raises(ValueError, match="no rows yet"):
        monitor.plot()
    train(optimizer, range(4))
    axes = monitor.plot().axes
    assert [ax.get_title() for ax in axes] == [
        *("step size", "gradient norm", "update / weights", "distance from the average")
    ]
    assert [line.get_label() for line in axes[0].lines] == ["step_size", "d"]
    assert list(axes[1].lines[0].get_xdata()) == [1, 2, 3, 4]


def test_without_matplotlib_a_plot_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monitor = Monitor(torch.optim.SGD(weights()))
    with pytest.raises(ImportError, match=r"pip install 'selftune\[plot\]'"):
        monitor.plot()


@every_optimizer
def test_a_monitor_does_not_keep_its_optimizer_in_memory(cls):
    params = weights()
    optimizer = cls(params)
    Monitor(optimizer, every=2)
    train(optimizer, range(5))
    first = weakref.ref(params[0])
    del params, optimizer
    gc.collect()
    assert first() is None


@every_optimizer
def test_a_closed_monitor_that_is_kept_for_its_rows_does_not_keep_its_optimizer(cls):
    optimizer = cls(weights())
    with Monitor(optimizer, every=2) as monitor:
        train(optimizer, range(5))
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None
    assert len(monitor.rows) == 2


def test_no_copy_of_the_weights_is_left_of_a_step_that_raised():
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("out of memory")

    optimizer = Failing(weights())
    with Monitor(optimizer, every=1) as monitor, pytest.raises(RuntimeError, match="memory"):
        train(optimizer, [0])
    assert monitor._before is None


def test_a_file_that_was_cut_off_within_a_row_is_continued(tmp_path):
    file = tmp_path / "optimizer.csv"
    for tail in ("", "1", ",", "12,0.5,1,2,3,4,5,6", "\0\0\0"):
        file.write_text("step,step_size\n10.0,0.5\n" + tail)
        Monitor(optimizer := torch.optim.SGD(weights()), to=file, every=1, made=19)
        train(optimizer, [0])
        assert [row["step"] for row in table(file)] == ["10.0", "20.0"]


def test_a_file_stays_where_it_is_when_the_program_changes_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimizer = torch.optim.SGD(weights())
    Monitor(optimizer, to="optimizer.csv", every=1)
    train(optimizer, [0])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    train(optimizer, [1])
    assert [row["step"] for row in table(tmp_path / "optimizer.csv")] == ["1.0", "2.0"]
