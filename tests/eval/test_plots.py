from math import inf

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import studies, trial

from eval.pool import assemble
from eval.reporting.plots import learning_curves, median_curve, performance_profile, steps_to_target
from eval.reporting.svg import PALETTE, styles
from eval.reporting.tables import troubles_table

KNOWN = ["nadamw", "adamw"]


def profile(pool, look):
    return performance_profile(pool.steps, look)


FIGURES = pytest.mark.parametrize("draw", [profile, learning_curves, steps_to_target])


def pool_of(*records, baselines=()):
    return assemble(records, baselines, ["ctr_dlrm", "image_vit"])


@pytest.mark.parametrize("workload", ["ctr_dlrm", "image_vit"])
@given(st.lists(st.none() | st.sampled_from(range(100, 3001, 50)), min_size=1, max_size=5))
def test_the_median_curve_meets_the_target_at_the_median_time(workload, hits):
    if len(hits) % 2 == 0:
        hits = hits[1:]
    pool = pool_of(*studies(workload, "mine", *hits))
    points = median_curve(pool.entrants[0], workload)
    median = pool.steps["mine"].times[workload]
    if median < inf:
        assert points[-1][0] == median
        assert points[-1][1] == pytest.approx(pool.rules[workload]["target"])
    else:
        assert points[-1][0] == 3000
        assert points[-1][1] != pytest.approx(pool.rules[workload]["target"])


def test_the_median_curve_ends_where_most_studies_have_failed():
    failed = [trial(study=study, reason="diverged at step 400") for study in range(2)]
    pool = pool_of(*failed, trial(study=2, hit=600))
    assert [step for step, _ in median_curve(pool.entrants[0], "ctr_dlrm")][-1] == 350


def test_one_failure_in_three_does_not_end_the_median_curve():
    pool = pool_of(*studies("ctr_dlrm", "mine", 600, 700), trial(study=2, reason="diverged"))
    steps = [step for step, _ in median_curve(pool.entrants[0], "ctr_dlrm")]
    assert steps == list(range(50, 701, 50))


def test_a_study_that_never_ran_counts_as_infinitely_bad():
    pool = pool_of(trial(study=2, hit=600))  # studies 0 and 1 are missing
    assert median_curve(pool.entrants[0], "ctr_dlrm") == []


def test_a_method_keeps_its_colour_whoever_else_is_in_the_pool():
    alone = pool_of(trial(method="adamw", hit=500))
    crowd = pool_of(
        trial(method="zeta", hit=700),
        trial(method="alpha", hit=600),
        baselines=[trial(method="adamw", hit=500), trial(method="nadamw", hit=400)],
    )
    assert (
        styles(alone.entrants, KNOWN)["adamw"].number
        == styles(crowd.entrants, KNOWN)["adamw"].number
        == 1
    )
    assert len({style.number for style in styles(crowd.entrants, KNOWN).values()}) == 4


def test_a_repeat_has_the_colour_of_the_recorded_method_and_is_dashed():
    recorded = [trial("ctr_dlrm", "adamw", hit=500)]
    look = styles(pool_of(trial(method="adamw", hit=500), baselines=recorded).entrants, KNOWN)
    assert look["adamw"].colour == look["adamw (yours)"].colour
    assert look["adamw"].dash != look["adamw (yours)"].dash


def test_colours_are_not_shared_while_there_are_any_left():
    methods = [*KNOWN, *(f"m{n}" for n in range(len(PALETTE) - len(KNOWN)))]
    look = styles(pool_of(*(trial(method=method, hit=500) for method in methods)).entrants, KNOWN)
    assert {style.number for style in look.values()} == set(range(len(PALETTE)))


def test_beyond_the_palette_lines_differ_by_their_dashes():
    methods = [f"m{n:02}" for n in range(2 * len(PALETTE))]
    look = styles(pool_of(*(trial(method=method, hit=500) for method in methods)).entrants, KNOWN)
    assert len({(style.number, str(style.dash)) for style in look.values()}) == len(methods)


@FIGURES
def test_figures_take_all_their_colours_from_the_page(draw):
    pool = pool_of(
        *studies("ctr_dlrm", "mine", 500, None),
        trial(method="other", reason="diverged"),
        baselines=studies("ctr_dlrm", "adamw", 500, 700),
    )
    svg = draw(pool, styles(pool.entrants, KNOWN))
    for name in pool.steps:
        assert f"var(--c{styles(pool.entrants, KNOWN)[name].number})" in svg
    for light, _ in PALETTE:
        assert light not in svg


def test_the_profile_is_labelled_with_names_and_scores():
    pool = pool_of(trial(method="fast", hit=500), trial(method="slow", hit=1000))
    svg = profile(pool, styles(pool.entrants, KNOWN))
    assert "fast  1.000" in svg
    assert "slow  0.667" in svg


def test_panels_name_the_workload_the_metric_and_its_direction():
    pool = pool_of(trial("ctr_dlrm", hit=500), trial("image_vit", hit=500))
    svg = learning_curves(pool, styles(pool.entrants, KNOWN))
    for text in ("ctr_dlrm", "log loss ↓", "image_vit", "accuracy ↑"):
        assert f">{text}<" in svg


@FIGURES
def test_figures_do_not_depend_on_the_users_matplotlib_settings(draw):
    pool = pool_of(trial(hit=500))
    plain = draw(pool, styles(pool.entrants, KNOWN))
    with matplotlib.rc_context({"axes.linewidth": 9, "font.family": "serif"}):
        assert draw(pool, styles(pool.entrants, KNOWN)) == plain


def test_a_diverging_method_does_not_flatten_the_others_and_is_named():
    wild = [trial(method="wild", study=study) for study in range(3)]
    for record in wild:
        record["curve"] = [[step, 1.0, 1e30] for step, _, _ in record["curve"]]
    pool = pool_of(*wild, *studies("ctr_dlrm", "tame", 600, 600, 600), trial(method="nadamw"))
    svg = learning_curves(pool, styles(pool.entrants, KNOWN))
    assert ">not in view: wild<" in svg
    assert "1e30" not in svg


def test_the_beginning_of_training_does_not_flatten_the_rest():
    run = studies("ctr_dlrm", "mine", 600, 600, 600)
    for record in run:
        record["curve"][0][2] = 1e6
    pool = pool_of(*run)
    svg = learning_curves(pool, styles(pool.entrants, KNOWN))
    assert "1e6" not in svg
    assert ">0.5<" in svg or ">0.50<" in svg


def test_a_method_that_was_never_evaluated_is_named():
    dead = trial(method="dead", reason="killed") | {"curve": []}
    pool = pool_of(dead, trial(hit=600))
    assert ">not in view: dead<" in learning_curves(pool, styles(pool.entrants, KNOWN))


def lost_again(study):
    """A miss of a workload that must hold its target of 0.5: 0.45 at step 100, 0.8 in the end."""
    curve = [[50, 1.0, 0.9], [100, 1.0, 0.45], [150, 1.0, 0.7], [3000, 1.0, 0.8]]
    ends = {"best_validation": 0.45, "final_validation": 0.8}
    return trial(study=study) | {"curve": curve} | ends


def test_a_median_that_loses_the_target_again_goes_on():
    pool = pool_of(*map(lost_again, range(3)))
    assert median_curve(pool.entrants[0], "ctr_dlrm")[-1] == (3000, 0.8)


def test_a_miss_that_was_at_its_target_says_so():
    table = troubles_table(pool_of(*map(lost_again, range(3))))
    ((_, _, what, studies),) = table.rows
    assert what.text == "missed log loss 0.5: best " + ", ".join(["0.45 but 0.8 later"] * 3)
    assert studies.text == "0, 1, 2"
