from dataclasses import replace
from pathlib import Path

import pytest
from late_flights import LATE_FLIGHTS
from trials import TRIAL

from eval.plan import CROSSED, edited, opened, refuse_other_rules, unfinished
from eval.results import Results, read
from eval.trial import record

PATH = Path("runs/mine/results.jsonl")
OTHER_WORKLOAD = replace(TRIAL, workload=replace(LATE_FLIGHTS, name="early_flights", step_hint=80))


def recorded(trial):
    return record(trial, [], "miss")


def test_trials_with_a_record_are_done():
    trials = [replace(TRIAL, study=study) for study in range(3)]
    assert unfinished(trials, [recorded(trials[1])]) == [trials[0], trials[2]]
    assert unfinished(trials, [recorded(OTHER_WORKLOAD)]) == trials


def test_a_failed_trial_is_done_unless_it_is_to_be_tried_again():
    records = [record(TRIAL, [], "failed", "diverged at step 2")]
    assert unfinished([TRIAL], records) == []
    assert unfinished([TRIAL], records, retry_failed=True) == [TRIAL]
    assert unfinished([TRIAL], [recorded(TRIAL)], retry_failed=True) == []


def test_an_edited_method_has_only_its_own_trials_dropped_after_saying_so(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    others = [recorded(replace(TRIAL, method="sgd", configuration="SGD", study=k)) for k in (0, 1)]
    before = [recorded(replace(TRIAL, configuration="Adam, lr 1", study=k)) for k in (0, 1)]
    with Results(path) as results:
        for one in (others[0], *before, others[1]):
            results.append(one)
    with opened(path, [TRIAL, replace(TRIAL, method="new")]) as results:
        assert results.records == others
    said = capsys.readouterr().err
    assert "adam was edited since its 2 trials here ('Adam, lr 1', now 'Adam, lr .01')" in said
    assert "results.replaced.jsonl" in said
    assert read(path) == others
    assert read(tmp_path / "results.replaced.jsonl") == before


def test_a_method_crossed_with_other_axes_is_not_an_edited_one():
    crossed = [f"Adam{CROSSED}cosine, lr same; averages: {names}" for names in ("none", "ema")]
    trial, before = (replace(TRIAL, configuration=text) for text in crossed)
    assert edited([trial], [recorded(before)]) == {}
    assert edited([trial], [recorded(replace(before, configuration=f"New {crossed[0]}"))]) != {}
    with pytest.raises(ValueError, match="choose another --out"):
        refuse_other_rules([trial], [recorded(before)], PATH)


def test_records_under_the_same_rules_are_kept():
    other_method = replace(TRIAL, method="sgd", configuration="SGD")
    records = [recorded(trial) for trial in (TRIAL, OTHER_WORKLOAD, other_method)]
    refuse_other_rules([TRIAL], records, PATH)


@pytest.mark.parametrize(
    ("before", "difference"),
    [
        (replace(TRIAL, budget=1.5), "with budget 1.5, not 3.0"),
        (replace(TRIAL, seed=7), "with seed 7, not 0"),
        (replace(TRIAL, target=0.5), "with target 0.5, not None"),
        (
            replace(TRIAL, configuration="Adam, lr 1"),
            "with method 'Adam, lr 1', not 'Adam, lr .01'",
        ),
        (
            replace(TRIAL, workload=replace(LATE_FLIGHTS, step_hint=80)),
            "with step_hint 80, not 40",
        ),
        (replace(OTHER_WORKLOAD, method="sgd", budget=1.5), "sgd on early_flights with budget"),
    ],
)
def test_records_under_other_rules_are_refused_by_name(before, difference):
    with pytest.raises(ValueError, match="choose another --out or remove") as refusal:
        refuse_other_rules([TRIAL], [recorded(before)], PATH)
    assert difference in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_other_data_are_refused():
    before = recorded(TRIAL)
    before["rules"]["data"] = "0123456789abcdef"
    with pytest.raises(ValueError, match="with data '0123456789abcdef', not"):
        refuse_other_rules([TRIAL], [before], PATH)
