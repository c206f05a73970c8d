import json
from math import nan

import pytest
from official_runs import V100, write_trial
from synthetic import studies, trial

from eval.algoperf import logs
from eval.algoperf.benchmark import V05, V06

TARGET = V05.workloads["fastmri"].target  # ssim 0.723653
CURVE = [(1, 5.0, 0.2), (300, 85.25, 0.7), (600, 165.5, TARGET), (900, 245.75, 0.73)]


def read(folder, rules=V05):
    return logs.read(folder, rules)


def test_the_first_evaluation_at_the_target_counts(tmp_path):
    write_trial(tmp_path / "mine", "fastmri", 0, CURVE)
    (record,) = read(tmp_path / "mine")
    assert record["outcome"] == "hit"
    assert (record["steps_to_target"], record["seconds"]["to_target"]) == (600, 165.5)
    assert (record["method"], record["workload"], record["study"]) == ("mine", "fastmri", 0)
    assert record["best_validation"] == record["final_validation"] == 0.73
    assert record["seconds"]["evaluation"] == 21.0
    assert record["rules"]["seed"] == 17
    assert record["versions"]["device"] == "8x Tesla V100-SXM2-16GB"


def test_a_loss_is_reached_from_above(tmp_path):
    rows = [(1, 5.0, 0.24), (100, 125.0, 0.1238), (200, 245.0, 0.1237)]
    write_trial(tmp_path / "mine", "criteo1tb", 0, rows, metric="loss", framework="jax")
    (record,) = read(tmp_path / "mine")
    assert record["steps_to_target"] == 200
    assert record["best_validation"] == 0.1237


def test_evaluations_without_a_number_are_no_hit_and_no_best(tmp_path):
    write_trial(tmp_path / "mine", "fastmri", 0, [(1, 5.0, 0.2), (300, 85.0, nan)])
    (record,) = read(tmp_path / "mine")
    assert (record["outcome"], record["best_validation"]) == ("miss", 0.2)
    assert record["curve"][-1] == [300, 0.5, None]


def test_a_run_whose_evaluations_fail_is_not_taken_for_a_miss(tmp_path):
    folder = write_trial(tmp_path / "mine", "fastmri", 0, CURVE[:1])
    (folder / "measurements.csv").write_text("global_step,score\n1,5.0\n31998,20000.0\n")
    (record,) = read(tmp_path / "mine")
    assert record["outcome"] == "failed"
    assert record["reason"] == "no evaluation after step 1, though trained to step 31998"
    assert (record["steps"], record["seconds"]["training"]) == (31998, 20000.0)


def test_a_trial_without_evaluations_has_failed(tmp_path):
    folder = write_trial(tmp_path / "mine", "fastmri", 0, CURVE)
    (folder / "eval_measurements.csv").unlink()
    (record,) = read(tmp_path / "mine")
    assert (record["outcome"], record["reason"]) == (
        *("failed", "no evaluation in eval_measurements.csv"),
    )


def test_of_five_trials_one_counts(tmp_path):
    for number, late in enumerate((900, 300, 600), start=1):
        rows = [(late, float(late), 0.73)] if number < 3 else [(1, 1.0, 0.2), (9, 9.0, 0.73)]
        write_trial(tmp_path / "mine", "fastmri", 0, rows, trial=number)
    assert [r["steps_to_target"] for r in read(tmp_path / "mine", V05)] == [900]
    assert [r["steps_to_target"] for r in read(tmp_path / "mine", V06)] == [9]


def test_a_workload_outside_the_rules_is_evaluated_by_its_own_log(tmp_path):
    meta = {
        "workload.target_metric_name": "accuracy",
        "workload.validation_target_value": 0.97,
        "workload.max_allowed_runtime_sec": 60,
        "workload.step_hint": 7813,
    }
    rows = [(1, 1.0, 0.1), (900, 9.0, 0.97)]
    write_trial(tmp_path / "mine", "mnist", 0, rows, metric="accuracy", meta=meta)
    (record,) = read(tmp_path / "mine")
    assert (record["outcome"], record["steps_to_target"]) == ("hit", 900)
    assert record["versions"]["device"] == "cpu"


def test_an_unknown_workload_without_a_description_is_refused(tmp_path):
    write_trial(tmp_path / "mine", "cifar", 0, CURVE, meta={})
    with pytest.raises(ValueError, match=r"cifar is not a workload of these rules.*meta_data_0"):
        read(tmp_path / "mine")


def test_a_damaged_line_is_named(tmp_path):
    folder = write_trial(tmp_path / "mine", "fastmri", 0, CURVE)
    path = folder / "eval_measurements.csv"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"eval_measurements\.csv, line 5 is damaged"):
        read(tmp_path / "mine")


def test_damaged_meta_data_are_named(tmp_path):
    folder = write_trial(tmp_path / "mine", "fastmri", 0, CURVE)
    (folder / "meta_data_0.json").write_text(json.dumps(V100)[:-9])
    with pytest.raises(ValueError, match=r"meta_data_0\.json is damaged"):
        read(tmp_path / "mine")


def test_a_log_of_another_metric_is_refused(tmp_path):
    write_trial(tmp_path / "mine", "fastmri", 0, CURVE, metric="loss")
    with pytest.raises(ValueError, match="has no column validation/ssim"):
        read(tmp_path / "mine")


def test_submissions_are_found_in_their_folder_and_in_themselves(tmp_path):
    write_trial(tmp_path / "logs" / "one", "fastmri", 0, CURVE)
    write_trial(tmp_path / "logs" / "two", "fastmri", 0, CURVE)
    assert [path.name for path in logs.submissions(tmp_path / "logs")] == ["one", "two"]
    assert [path.name for path in logs.submissions(tmp_path / "logs" / "two")] == ["two"]
    with pytest.raises(ValueError, match=r"no logs in .*expected SUBMISSION/study_0/"):
        logs.submissions(tmp_path)


def test_what_is_written_is_read_again(tmp_path):
    rules = {"target": TARGET, "metric": "ssim", "higher_is_better": True, "step_hint": 36189}
    records = [
        trial("image_vit", "mine", k, hit, **rules) | {"workload": "fastmri"}
        for k, hit in enumerate((500, None))
    ]
    assert logs.write(records, tmp_path) == []
    again = read(tmp_path / "logs" / "mine")
    for before, after in zip(records, again, strict=True):
        assert after["curve"] == before["curve"]
        assert after["seconds"]["curve"] == before["seconds"]["curve"]
        assert after["study"] == before["study"]


def test_pocket_records_get_the_official_names_of_their_metrics(tmp_path):
    records = [*studies("ctr_dlrm", "mine", 500), *studies("translation_transformer", "mine", 500)]
    logs.write(records, tmp_path)
    config = json.loads((tmp_path / "workload_targets.json").read_text())
    assert config["base_workloads"] == ["ctr_dlrm", "translation_transformer"]
    assert config["workloads"]["ctr_dlrm"] == {
        "target_metric_name": "loss",
        "validation_target_value": 0.5,
        "step_hint": 1000,
    }
    path = tmp_path / "logs/mine/study_0/translation_transformer_pytorch/trial_1"
    header = (path / "eval_measurements.csv").read_text().partition("\n")[0]
    assert header.endswith("score,train/loss,validation/bleu")


def test_a_trial_that_died_before_any_evaluation_is_not_written_but_named(tmp_path):
    died = trial(reason="killed") | {"curve": []}
    assert logs.write([died, *studies("ctr_dlrm", "mine", None, 500)[1:]], tmp_path) == [died]
    assert not (tmp_path / "logs/mine/study_0").exists()
