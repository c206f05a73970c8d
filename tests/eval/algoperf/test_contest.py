import pytest
from official_runs import V100, write_trial

from eval.algoperf import logs
from eval.algoperf.benchmark import A100, V05, V06
from eval.algoperf.contest import assemble, is_official
from eval.algoperf.published import FIELDS, records
from eval.algoperf.scores import official_score

FIELD = FIELDS["published-v0.5"]


def run_of(folder, rules=V05, meta=V100, workloads=None, studies=None, seconds=1000.0):
    """A submission that reaches every target after `seconds`."""
    for name in workloads or rules.all_workloads:
        workload = rules.all_workloads[name]
        for study in range(studies or rules.studies):
            rows = [(100, seconds + study, workload.target)]
            write_trial(folder, name, study, rows, metric=workload.metric.name, meta=meta)
    return logs.read(folder, rules)


def by_name(contest, name):
    return next(entrant for entrant in contest.entrants if entrant.name == name)


def test_a_whole_run_on_the_official_machine_has_an_algoperf_score(tmp_path):
    contest = assemble(run_of(tmp_path / "mine"), FIELD, V05)
    assert contest.notes == ()
    assert is_official(contest, by_name(contest, "mine"))
    assert contest.entrants[0].name == "mine"
    # criteo_embed_init took the baseline 503 s, mine 1002: everything else is faster
    assert official_score(contest.seconds["mine"]) == 1


def test_published_logs_read_again_get_the_published_score():
    # records of the field as somebody's run: equal to themselves
    run = [r | {"method": "again"} for r in records(FIELD) if r["method"] == "baseline"]
    contest = assemble(run, FIELD, V05)
    assert f"{official_score(contest.seconds['again']):.4f}" == "0.8194"
    assert official_score(contest.seconds["baseline"]) == official_score(contest.seconds["again"])


def test_a_name_that_is_published_too_is_told_apart(tmp_path):
    contest = assemble(run_of(tmp_path / "baseline"), FIELD, V05)
    assert {"baseline", "baseline (yours)"} <= set(contest.seconds)
    assert [entrant.name for entrant in contest.run] == ["baseline (yours)"]


def test_a_single_run_is_scored_in_one_pool_on_its_workload_only(tmp_path):
    run = run_of(tmp_path / "mine", workloads=["fastmri"], studies=1, seconds=2642.0)
    contest = assemble(run, FIELD, V05)
    assert contest.workloads == ("fastmri",)
    assert contest.held_out == {}
    # schedule_free_adamw's median is 1321.1 s
    assert contest.seconds["mine"].ratios["fastmri"] == pytest.approx(2.0, abs=0.001)
    assert not is_official(contest, by_name(contest, "mine"))
    notes = " ".join(contest.notes)
    assert "over 1 of 8 workloads only, without criteo1tb" in notes
    assert "held-out workloads that the run lacks do not affect any score here: criteo" in notes
    assert "mine lacks some of the 5 studies that the rules require: fastmri (4)" in notes


def test_held_out_workloads_count_only_if_the_run_has_them(tmp_path):
    run = run_of(tmp_path / "mine", workloads=[*V05.workloads, "wmt_glu_tanh"])
    contest = assemble(run, FIELD, V05)
    assert contest.held_out == {"wmt_glu_tanh": "wmt"}
    # nadamw_sequential is beyond 4 x the best there, and nowhere else in what counts
    assert contest.seconds["nadamw_sequential"].ratios["wmt"] == float("inf")


def test_seconds_of_another_machine_are_said_not_to_compare(tmp_path):
    contest = assemble(run_of(tmp_path / "mine", meta={}), FIELD, V05)
    assert any("seconds are from unknown, the field's from 8x V100" in n for n in contest.notes)
    assert not is_official(contest, by_name(contest, "mine"))


def test_a_target_reached_after_the_budget_is_noted(tmp_path):
    late = 3.1 * V05.workloads["fastmri"].runtime
    run = run_of(tmp_path / "mine", workloads=["fastmri"], seconds=late)
    contest = assemble(run, FIELD, V05)
    assert any("reached after the budget of v0.5: mine on fastmri" in n for n in contest.notes)


def test_another_target_than_the_fields_is_noted(tmp_path):
    run = run_of(tmp_path / "mine", workloads=["fastmri"])
    for record in run:
        record["rules"]["target"] = 0.7
    contest = assemble(run, FIELD, V05)
    assert any(
        "fastmri ran with the target 0.7, the field with 0.72365" in n for n in contest.notes
    )


def test_a_workload_that_the_field_does_not_have_is_refused(tmp_path):
    run = run_of(tmp_path / "mine", rules=A100, workloads=["finewebedu_lm"])
    with pytest.raises(
        ValueError, match=r"finewebedu_lm is not a workload of published-v0\.5; score"
    ):
        assemble(run, FIELD, V05)


def test_runs_can_be_scored_among_themselves(tmp_path):
    run = run_of(tmp_path / "fast", V06, workloads=["wmt"], seconds=500)
    run += run_of(tmp_path / "slow", V06, workloads=["wmt"], seconds=1001)
    contest = assemble(run, None, V06)
    assert list(contest.seconds) == ["fast", "slow"]
    assert contest.seconds["slow"].ratios["wmt"] == pytest.approx(2, abs=0.01)
    assert contest.can_relax


def test_the_spread_over_seeds_scores_every_study_alone(tmp_path):
    run = run_of(tmp_path / "a", V06, workloads=["wmt"], seconds=500)
    run += run_of(tmp_path / "b", V06, workloads=["wmt"], seconds=499.5)
    # a takes 500, 501, 502 seconds, b 499.5, 500.5, 501.5: b wins every study
    scores = assemble(run, None, V06).scores_by_study
    assert scores["b"] == [1, 1, 1]
    assert all(score < 1 for score in scores["a"])


def test_the_external_fields_have_no_relaxed_targets():
    field = FIELDS["published-v0.6-external"]
    assert not assemble([], field, field.rules).can_relax


def test_a_target_reached_after_the_budget_makes_no_algoperf_score(tmp_path):
    run = run_of(tmp_path / "mine")
    assert is_official(assemble(run, FIELD, V05), by_name(assemble(run, FIELD, V05), "mine"))
    run[0]["seconds"]["to_target"] = 4 * V05.all_workloads[run[0]["workload"]].runtime
    contest = assemble(run, FIELD, V05)
    assert not is_official(contest, by_name(contest, "mine"))


def test_a_field_of_another_ruleset_gives_no_algoperf_score(tmp_path):
    external = FIELDS["published-v0.5-external"]
    contest = assemble(run_of(tmp_path / "mine", seconds=100.0), external, external.rules)
    assert not is_official(contest, by_name(contest, "mine"))
    assert any("the field competed in the external tuning ruleset" in n for n in contest.notes)


def test_trials_of_another_budget_make_no_algoperf_score(tmp_path):
    run = run_of(tmp_path / "mine")
    for record in run:
        record["rules"]["budget"] = 1.5
    contest = assemble(run, FIELD, V05)
    assert not is_official(contest, by_name(contest, "mine"))
    assert any("not run under the budget of v0.5: criteo1tb with 1.5" in n for n in contest.notes)


def test_another_target_makes_no_algoperf_score(tmp_path):
    run = run_of(tmp_path / "mine")
    run[0]["rules"]["target"] *= 1.01
    contest = assemble(run, FIELD, V05)
    assert not is_official(contest, by_name(contest, "mine"))


def test_unfinished_runs_say_how_far_they_came_and_make_no_algoperf_score(tmp_path):
    run = run_of(tmp_path / "mine")
    runtime = V05.all_workloads[run[0]["workload"]].runtime
    run[0] |= {"outcome": "miss", "steps_to_target": None, "steps": 700}
    run[0]["seconds"] |= {"to_target": None, "training": 0.75 * runtime}
    contest = assemble(run, FIELD, V05)
    assert not is_official(contest, by_name(contest, "mine"))
    (note,) = [note for note in contest.notes if "unfinished" in note]
    assert f"mine on {run[0]['workload']} in study 0 (step 700, 25% of the budget)" in note
    run[0]["seconds"]["training"] = 3 * runtime
    contest = assemble(run, FIELD, V05)
    assert is_official(contest, by_name(contest, "mine"))
