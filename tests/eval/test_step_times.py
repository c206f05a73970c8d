import json
from dataclasses import replace

import drive
import pytest
from late_flights import LATE_FLIGHTS
from synthetic import studies

from eval import calibrate
from eval.methods import METHODS
from eval.pool import assemble
from eval.reporting.scales import calibrated_table
from eval.step_times import BUNDLED, NAME, StepTimes, in_use, standings

ORDER = ["ctr_dlrm", "image_vit"]
RUN = [
    *studies("ctr_dlrm", "mine", 800, code="a"),
    *studies("image_vit", "mine", 1000, code="b"),
]
RECORDED = [
    *studies("ctr_dlrm", "nadamw", 1000, code="a"),
    *studies("image_vit", "nadamw", None, code="b"),
]
POOL = assemble(RUN, RECORDED, ORDER)
MINE = {"mine": {"as it comes": 4.0}}
BOTH = MINE | {"nadamw": {"as it comes": 1.0}}
TIMES = StepTimes("cpu", "torch", {"ctr_dlrm": {"a": BOTH}, "image_vit": {"b": BOTH}})


def test_seconds_are_steps_times_milliseconds_and_an_expensive_step_loses_its_lead():
    assert POOL.steps["mine"].credits["ctr_dlrm"] == 1
    found = standings(POOL, TIMES)
    assert found["mine"].times == {"ctr_dlrm": 3.2, "image_vit": 4.0}
    assert found["nadamw"].ratios["ctr_dlrm"] == 1
    assert found["mine"].ratios["ctr_dlrm"] == pytest.approx(3.2)


def test_who_was_not_timed_on_every_workload_is_named_and_not_ranked():
    partly = replace(TIMES, ms={"ctr_dlrm": {"a": BOTH}, "image_vit": {"b": MINE}})
    assert list(standings(POOL, partly)) == ["mine"]
    table = calibrated_table(POOL, partly)
    assert [row[0].text for row in table.rows] == ["mine"]
    assert "Not timed: nadamw; `python -m eval.calibrate`" in table.caption


@pytest.mark.parametrize(
    "other",
    [
        {"ctr_dlrm": {"elsewhere": BOTH}, "image_vit": {"b": BOTH}},
        {"ctr_dlrm": {"a": {"mine": {"edited": 4.0}}}, "image_vit": {"b": BOTH}},
    ],
    ids=["code", "configuration"],
)
def test_times_of_other_code_or_another_configuration_are_not_used(other):
    assert "mine" not in standings(POOL, replace(TIMES, ms=other))


def test_without_times_the_table_says_how_to_get_them():
    for times in (None, StepTimes("cpu", "torch", {})):
        table = calibrated_table(POOL, times)
        assert table.rows == ()
        assert "`python -m eval.calibrate`" in table.caption


def test_the_file_comes_back_and_a_runs_own_goes_before_the_bundled_one(tmp_path):
    assert in_use(tmp_path) == (StepTimes.read(BUNDLED) if BUNDLED.exists() else None)
    (tmp_path / NAME).write_text(TIMES.text())
    assert in_use(tmp_path) == TIMES


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"device": "cpu", "made_with": "x", "ms": 3}'),
        TIMES.text().replace("4.0", "-4.0"),
        TIMES.text().replace("4.0", '"soon"'),
    ],
)
def test_a_file_of_something_else_is_refused_with_the_remedy(tmp_path, text):
    path = tmp_path / NAME
    path.write_text(text)
    with pytest.raises(ValueError, match=r"holds no step times.*remove it and run"):
        StepTimes.read(path)


def test_the_bundled_times_are_of_methods_of_today():
    for codes in StepTimes.read(BUNDLED).ms.values():
        for methods in codes.values():
            for name, configurations in methods.items():
                assert list(configurations) == [METHODS[name].summary]


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(calibrate, "WORKLOADS", drive.WORKLOADS)
    monkeypatch.setattr(calibrate, "SUITES", drive.SUITES)
    monkeypatch.setattr(calibrate, "METHODS", drive.METHODS)


def test_the_command_times_methods_in_turn_and_writes_what_reports_read(own, tmp_path, capsys):
    arguments = ["--method", "sgd,adam", "--rounds", "3", "--out", str(tmp_path)]
    assert calibrate.main(arguments) == 0
    assert "late_flights: " in capsys.readouterr().out
    (codes,) = json.loads((tmp_path / NAME).read_text())["ms"].values()
    (methods,) = codes.values()
    assert {name: list(its) for name, its in methods.items()} == {
        name: [drive.METHODS[name].summary] for name in ("sgd", "adam")
    }
    assert in_use(tmp_path) == StepTimes.read(tmp_path / NAME)


def test_a_method_that_cannot_be_built_is_refused_in_one_line(own, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        calibrate.main(["--method", "missing", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "unknown method 'missing'" in capsys.readouterr().err


def test_every_method_sees_the_same_batches():
    seen = {"a": [], "b": []}

    def watching(name):
        def build(model, num_steps):
            model.register_forward_pre_hook(lambda _, inputs: seen[name].append(inputs[0].sum()))
            return drive.METHODS["sgd"].build(model, num_steps)

        return replace(drive.METHODS["sgd"], name=name, build=build)

    calibrate.calibrated(LATE_FLIGHTS, [watching("a"), watching("b")], 2, "cpu")
    assert len(seen["a"]) == calibrate.UNTIMED + 2
    assert seen["a"] == seen["b"]
