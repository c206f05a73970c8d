import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import studies, trial

from eval import baselines
from eval.intervals import score_intervals
from eval.pool import assemble, at_budget
from eval.reporting.verdict import rules, standing, standings
from eval.schema import problem

ORDER = ["ctr_dlrm", "image_vit", "translation_transformer"]
BASELINES = [
    *studies("ctr_dlrm", "nadamw", 1000, 900, 1100),
    *studies("image_vit", "nadamw", 500, 500, 600),
    *studies("ctr_dlrm", "prodigy", 2000, 2000, 2000),
    *studies("image_vit", "prodigy", 1000, 1000, None),
]
RUN = [
    *studies("ctr_dlrm", "mine", 800, 850, 750),
    *studies("image_vit", "mine", 1250, 1250, 1250),
]


def names(pool):
    return [entrant.name for entrant in pool.entrants]


def score(pool, name):
    return pytest.approx(pool.steps[name].score)


def test_a_run_is_scored_in_one_pool_with_the_baselines():
    pool = assemble(RUN, BASELINES, ORDER[:2])
    assert names(pool) == ["nadamw", "mine", "prodigy"]
    assert score(pool, "nadamw") == ((4 - 1000 / 800) / 3 + 1) / 2
    assert score(pool, "mine") == (1 + (4 - 1250 / 500) / 3) / 2
    assert score(pool, "prodigy") == ((4 - 2000 / 800) / 3 + (4 - 1000 / 500) / 3) / 2
    assert [entrant.name for entrant in pool.run] == ["mine"]
    assert pool.notes == ()


def test_only_the_workloads_of_the_run_are_scored_and_the_pool_says_so():
    pool = assemble(RUN[:3], BASELINES, ORDER)
    assert pool.workloads == ["ctr_dlrm"]
    assert score(pool, "nadamw") == (4 - 1000 / 800) / 3
    assert "the scores are over 1 of the 3 workloads only" in pool.notes


def test_workloads_stand_in_the_given_order_whichever_was_finished_first():
    assert assemble(RUN[::-1], BASELINES, ["image_vit", "ctr_dlrm"]).workloads == [
        "image_vit",
        "ctr_dlrm",
    ]


@given(st.permutations(RUN), st.permutations(BASELINES))
def test_the_order_in_which_trials_finished_does_not_matter(run, baselines):
    assert assemble(run, baselines, ORDER) == assemble(RUN, BASELINES, ORDER)


def test_a_repeat_of_a_recorded_method_stands_beside_it_as_yours():
    run = [
        *studies("ctr_dlrm", "nadamw", 800, 800, 800),
        *studies("image_vit", "nadamw", 500, 500, 500),
    ]
    pool = assemble(run, BASELINES, ORDER)
    assert {"nadamw", "nadamw (yours)", "prodigy"} == set(names(pool))
    assert pool.steps["nadamw (yours)"].times["ctr_dlrm"] == 800
    assert pool.steps["nadamw"].times["ctr_dlrm"] == 1000
    assert [entrant.name for entrant in pool.run] == ["nadamw (yours)"]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("step_hint", 900),
        ("target", 0.49),
        ("metric", "loss"),
        ("data", "fedcba9876543210"),
        ("code", "another width"),
        ("higher_is_better", True),
    ],
)
def test_baselines_under_other_rules_are_left_out_and_named(rule, value):
    run = studies("ctr_dlrm", "mine", 800, 850, 750, **{rule: value})
    pool = assemble(run, BASELINES, ORDER)
    assert names(pool) == ["mine"]
    (left_out,) = [note for note in pool.notes if "left out" in note]
    assert left_out.startswith("left out of the pool: nadamw, prodigy (recorded with")
    assert rule in left_out
    assert str(value) in left_out
    assert any("no recorded baseline is comparable" in note for note in pool.notes)


def test_a_baseline_lacking_one_of_the_workloads_is_left_out_of_all():
    only_ctr = [record for record in BASELINES if record["workload"] == "ctr_dlrm"]
    image = [r for r in BASELINES if r["workload"] == "image_vit" and r["method"] == "nadamw"]
    pool = assemble(RUN, only_ctr + image, ORDER[:2])
    assert names(pool) == ["nadamw", "mine"]
    assert "left out of the pool: prodigy (not recorded on image_vit)" in pool.notes


def test_without_baselines_the_pool_says_that_a_run_is_scored_against_itself():
    pool = assemble(RUN, [], ORDER[:2])
    assert pool.steps["mine"].score == 1
    assert pool.notes == (
        "no recorded baseline is comparable with this run: it is scored only against itself",
    )


def test_a_method_that_lacks_trials_is_told_and_in_nobodys_score():
    pool = assemble([*RUN, *studies("ctr_dlrm", "part", 100, 100, 100)], BASELINES, ORDER[:2])
    assert names(pool) == ["nadamw", "mine", "prodigy"]
    assert [entrant.name for entrant in pool.unranked] == ["part"]
    assert score(pool, "mine") == (1 + (4 - 1250 / 500) / 3) / 2  # part's 100 steps do not count
    assert "part lacks 3 of 6 trials, and is not ranked (on image_vit)" in pool.notes


def test_where_nobody_is_complete_missing_trials_are_misses_and_are_told():
    pool = assemble(RUN[:5], [], ORDER[:2])  # without image_vit's last study
    assert pool.steps["mine"].times["image_vit"] == 1250
    assert "mine lacks 1 of 6 trials, counted as misses (on image_vit)" in pool.notes
    pool = assemble(RUN[:4], [], ORDER[:2])
    assert pool.steps["mine"].times["image_vit"] == float("inf")
    assert pool.steps["mine"].score == 0.5


def overfitting(study, end):
    """A miss that is best at step 500 of 3000 and comes to `end`, from 0.9 and by way of 0.6."""
    curve = [[step, 1.0, 0.9 - 0.3 * step / 500] for step in range(50, 501, 50)]
    curve += [[step, 1.0, 0.6 + (end - 0.6) * (step - 500) / 2500] for step in range(550, 3001, 50)]
    return trial(study=study) | {"curve": curve, "final_validation": end, "best_validation": 0.6}


def test_overfitting_is_remarked_on():
    run = [overfitting(0, 0.8), overfitting(1, 0.61), trial(study=2, hit=800)]
    notes = assemble(run, [], ["ctr_dlrm"]).notes
    assert (
        "on ctr_dlrm 1 of 2 runs that went on to their end were best in their first half and then "
        "lost more than 10% of their gain: the model overfits"
    ) in notes


def test_the_recorded_runs_are_not_all_told_to_overfit():
    notes = assemble(baselines.read(), [], []).notes
    assert sum("overfits" in note for note in notes) <= 3, notes


def test_a_run_of_one_study_meets_the_baselines_first_study_only():
    run = [record for record in RUN if record["study"] == 0]
    pool = assemble(run, BASELINES, ORDER[:2])
    assert pool.steps["nadamw"].times == {"ctr_dlrm": 1000, "image_vit": 500}
    assert pool.notes == ()


def test_a_run_of_more_studies_than_recorded_says_so():
    run = studies("ctr_dlrm", "mine", 800, 850, 750, 700, 650)
    pool = assemble(run, BASELINES, ["ctr_dlrm"])
    assert pool.steps["mine"].times["ctr_dlrm"] == 750
    assert pool.notes == ("this run has studies 5, the recorded baselines have 3",)


def test_another_seed_and_another_torch_are_compared_and_told():
    run = studies("ctr_dlrm", "mine", 800, 850, 750, seed=7, versions={"torch": "2.6.0"})
    assert assemble(run, BASELINES, ["ctr_dlrm"]).notes == (
        "this run has seed 7, the recorded baselines have 0",
        "this run has torch 2.6.0, the recorded baselines have 2.13.0",
    )


def test_seconds_are_ranked_within_one_source():
    pool = assemble(RUN, BASELINES, ORDER[:2])
    assert list(pool.seconds(recorded=False)) == ["mine"]
    assert list(pool.seconds(recorded=True)) == ["nadamw", "prodigy"]
    assert pool.seconds(recorded=True)["nadamw"].score == 1


def test_each_study_is_scored_alone():
    pool = assemble(RUN, BASELINES, ORDER[:2])
    first, second, third = pool.scores_by_study()["prodigy"]
    assert first == pytest.approx(((4 - 2000 / 800) / 3 + (4 - 1000 / 500) / 3) / 2)
    assert second == pytest.approx(((4 - 2000 / 850) / 3 + (4 - 1000 / 500) / 3) / 2)
    assert third == pytest.approx((4 - 2000 / 750) / 3 / 2)


def test_single_studies_are_compared_as_far_as_all_have_them():
    run = studies("ctr_dlrm", "mine", 800, 850, 750, 700, 650)
    by_study = assemble(run, BASELINES, ["ctr_dlrm"]).scores_by_study()
    assert {name: len(scores) for name, scores in by_study.items()} == {
        "mine": 3,
        "nadamw": 3,
        "prodigy": 3,
    }


def test_the_rules_name_the_algoperf_version_with_that_budget():
    def line(number, budget):
        hits = [800] * number
        return rules(assemble(studies("ctr_dlrm", "mine", *hits, budget=budget), [], ORDER))

    assert line(3, 3.0).startswith(
        "budget 3 x step_hint (AlgoPerf v0.5's), median of 3 studies (v0.5 has 5), "
    )
    assert line(5, 3.0).startswith("budget 3 x step_hint (AlgoPerf v0.5's), median of 5 studies, ")
    assert line(3, 1.5).startswith(
        "budget 1.5 x step_hint (AlgoPerf v0.6's), median of 3 studies, "
    )
    assert line(1, 2.0).startswith("budget 2 x step_hint (no AlgoPerf version's), 1 study, ")
    assert "time counted in optimizer steps" in line(3, 3.0)


def test_the_standing_names_rank_score_neighbours_and_targets():
    pool = assemble(RUN, BASELINES, ORDER[:2])
    (sentence,) = standings(pool)
    assert sentence.startswith(
        "mine is 2nd of 3, with a score of 0.750, 0.208 behind nadamw, 0.167 ahead of prodigy; "
        "it reaches 2 of 2 targets."
    )
    assert sentence.endswith(" Every single study has the same methods ahead of it and behind.")


def test_the_standing_tells_when_single_studies_disagree():
    run = studies("ctr_dlrm", "mine", 950, 950, 950)
    sentence = standing(pool := assemble(run, BASELINES, ["ctr_dlrm"]), pool.run[0])
    # alone, study 1 has nadamw at 900 before mine at 950
    assert sentence.startswith("mine is 1st of 3, with a score of 1.000, 0.018 ahead of nadamw;")
    assert sentence.endswith(
        " Single studies disagree on the order against nadamw (-0.019 to +0.053)."
    )


def test_a_median_order_that_every_single_study_reverses_is_not_called_agreed():
    # In every study `a` is far ahead on one workload and a little behind on two.
    a = [
        *studies("ctr_dlrm", "a", 50, 210, 210),
        *studies("image_vit", "a", 210, 50, 210),
        *studies("translation_transformer", "a", 210, 210, 50),
    ]
    b = [record for workload in ORDER for record in studies(workload, "b", 200, 200, 200)]
    pool = assemble(a + b, [], ORDER)
    assert names(pool) == ["b", "a"]
    assert all(a > b for a, b in zip(*map(pool.scores_by_study().get, "ab"), strict=True))
    assert "Single studies disagree on the order against b" in standing(pool, pool.run[1])


def test_a_study_that_disagrees_about_a_method_further_away_is_told_too():
    """Nearest to `mine` are b and c, which it stands between in every study; not so with a."""
    by_method = {
        "a": (100, 100, 900),
        "b": (200, 200, 200),
        "mine": (250, 250, 250),
        "c": (300, 300, 300),
    }
    run = [record for m, hits in by_method.items() for record in studies("ctr_dlrm", m, *hits)]
    pool = assemble(run, [], ["ctr_dlrm"])
    assert names(pool) == ["a", "b", "mine", "c"]
    (sentence,) = [text for text in standings(pool) if text.startswith("mine")]
    assert "behind b" in sentence
    assert "Single studies disagree on the order against a (" in sentence
    assert "against a and" not in sentence


def test_one_study_is_no_spread():
    pool = assemble([r for r in RUN if r["study"] == 0], BASELINES, ORDER[:2])
    assert "One study shows no spread" in standing(pool, pool.run[0])


def test_equal_scores_share_a_place():
    run = [{**record, "method": "mine"} for record in BASELINES if record["method"] == "nadamw"]
    pool = assemble(run, BASELINES, ORDER[:2])
    assert standing(pool, pool.run[0]).startswith(
        "mine shares 1st of 3 with nadamw, with a score of 1.000, "
    )


def test_nobody_is_first_where_nobody_reaches_a_target():
    pool = assemble([trial(), trial(method="other", reason="diverged")], [], ["ctr_dlrm"])
    assert standings(pool) == [
        "mine scores 0.000: no method in its pool of 2 reaches a target.",
        "other scores 0.000: no method in its pool of 2 reaches a target.",
    ]


def test_the_recorded_sibling_is_called_recorded():
    run = [
        *studies("ctr_dlrm", "nadamw", 900, 900, 900),
        *studies("image_vit", "nadamw", 500, 500, 500),
    ]
    pool = assemble(run, BASELINES, ORDER[:2])
    assert "ahead of the recorded nadamw;" in standing(pool, pool.run[0])


def test_a_failure_everywhere_still_has_a_standing():
    pool = assemble([trial(reason="diverged at step 400")], BASELINES, ORDER)
    assert standing(pool, pool.run[0]).startswith(
        "mine is 3rd of 3, with a score of 0.000, 0.667 behind prodigy; it reaches 0 of 1 target."
    )


@pytest.mark.parametrize(
    ("better", "place"), [(1, "2nd"), (2, "3rd"), (3, "4th"), (10, "11th"), (21, "22nd")]
)
def test_places_are_ordinals(better, place):
    baselines = [trial(method=f"m{n}", hit=1000 + 10 * n) for n in range(better)]
    pool = assemble([trial(hit=2000)], baselines, ["ctr_dlrm"])
    assert standing(pool, pool.run[0]).startswith(f"mine is {place} of {better + 1}, ")


def test_a_method_without_company_is_alone_in_its_pool():
    pool = assemble(RUN, [], ORDER[:2])
    assert standing(pool, pool.run[0]) == (
        "mine is alone in its pool: its score of 1.000 says only that it reaches 2 of 2 targets."
    )


def test_recorded_trials_are_read_line_by_line_and_none_before_they_are_recorded(tmp_path):
    path = tmp_path / "results.jsonl"
    assert baselines.read(path) == []
    lines = "".join(json.dumps(record) + "\n" for record in BASELINES)
    path.write_text(lines, encoding="utf-8")
    assert baselines.read(path) == BASELINES


def test_baselines_serve_a_smaller_budget_and_their_later_hits_are_misses():
    run = studies("ctr_dlrm", "mine", 400, 400, 400, budget=0.95)
    recorded = studies("ctr_dlrm", "nadamw", 900, 951, None)
    pool = assemble(run, recorded, ["ctr_dlrm"])
    assert names(pool) == ["mine", "nadamw"]
    (nadamw,) = [entrant for entrant in pool.entrants if entrant.recorded]
    trials = nadamw.trials["ctr_dlrm"]
    assert [trial["outcome"] for trial in trials] == ["hit", "miss", "miss"]
    assert [trial["steps_to_target"] for trial in trials] == [900, None, None]
    assert [trial["seconds"]["to_target"] for trial in trials] == [9.0, None, None]
    assert all(trial["steps"] <= 950 for trial in trials)
    assert all(len(trial["curve"]) == len(trial["seconds"]["curve"]) for trial in trials)
    assert not any("left out" in note for note in pool.notes)


@pytest.mark.parametrize("budget", [0.5, 1.0, 1.5, 2.9, 3.0])
def test_a_cut_record_is_what_a_trial_of_that_budget_leaves(budget):
    steps = round(budget * 1000)
    for long in (*studies("ctr_dlrm", "m", 400, 1450, 2950), trial("ctr_dlrm", "m")):
        cut = at_budget(long, budget)
        assert problem(cut) is None
        assert cut["rules"]["budget"] == budget
        hit = long["steps_to_target"]
        assert cut["steps_to_target"] == (hit if hit and hit <= steps else None)
        assert cut["curve"] == [point for point in long["curve"] if point[0] <= steps]
    failed = at_budget(trial("ctr_dlrm", "m", reason="diverged"), 0.3)  # at step 400
    assert (failed["outcome"], failed["reason"]) == ("miss", None)
    assert at_budget(trial("ctr_dlrm", "m", reason="diverged"), budget)["outcome"] == "failed"


def test_a_larger_budget_says_that_recorded_misses_had_a_smaller_one():
    run = studies("ctr_dlrm", "mine", 5000, budget=6.0)
    recorded = [*studies("ctr_dlrm", "nadamw", 900), *studies("ctr_dlrm", "lion", None)]
    pool = assemble(run, recorded, ["ctr_dlrm"])
    assert set(names(pool)) == {"mine", "nadamw", "lion"}
    (note,) = pool.notes
    assert note.startswith("lion had a budget of 3 x step_hint when recorded, this run has 6")


def test_the_interval_of_a_score_holds_it_and_is_a_point_where_nothing_varies():
    pool = assemble(RUN, BASELINES, ORDER[:2])
    intervals = score_intervals(pool)
    for name, its in pool.steps.items():
        low, high = intervals[name]
        assert 0 <= low <= its.score <= high <= 1
    assert score_intervals(pool) == intervals
    alone = assemble(studies("ctr_dlrm", "mine", 800, 800, 800), [], ["ctr_dlrm"])
    assert score_intervals(alone) == {"mine": (1.0, 1.0)}
    nobody = assemble(studies("ctr_dlrm", "mine", None), [], ["ctr_dlrm"])
    assert score_intervals(nobody) == {"mine": (0.0, 0.0)}


def test_an_interval_is_wider_where_workloads_disagree():
    def width(first, second):
        run = [*studies("ctr_dlrm", "a", *first), *studies("image_vit", "a", *second)]
        run += [*studies("ctr_dlrm", "b", 1000, 1000), *studies("image_vit", "b", 1000, 1000)]
        low, high = score_intervals(assemble(run, [], ORDER[:2]))["a"]
        return high - low

    assert width((2000, 2000), (2000, 2000)) == 0
    assert width((1000, 1000), (3000, 3000)) > 0.3
    assert width((1900, 2100), (1900, 2100)) > 0
