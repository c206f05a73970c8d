from math import inf

import pytest
from synthetic import STEP_HINT, studies, trial

from eval.pool import assemble
from eval.reporting.plots import strictness_curves
from eval.reporting.scales import levels_table, workloads_table
from eval.reporting.svg import styles
from eval.results import read
from eval.rules import rules_of
from eval.strictness import curve, first_reached, hits, moved, scores, steps_to
from eval.targets import log, target
from eval.targets.besides import Besides
from eval.workloads import WORKLOADS

ORDER = ["ctr_dlrm", "image_vit"]
RUN = [
    *studies("ctr_dlrm", "mine", 800, 800, 800),
    *studies("image_vit", "mine", 1000, 1000, 1000),
]
RECORDED = [
    *studies("ctr_dlrm", "nadamw", None, None, None),
    *studies("image_vit", "nadamw", 500, 500, 500),
]
POOL = assemble(RUN, RECORDED, ORDER)
OWN = {"ctr_dlrm": 0.5, "image_vit": 0.8}
BESIDES = Besides({}, {"ctr_dlrm": 0.6, "image_vit": 0.4}, {"ctr_dlrm": 0.4, "image_vit": 0.9}, {})


def points(*values):
    """A record whose curve has these values, an evaluation every 10 steps."""
    record = trial("image_vit")
    return {**record, "curve": [[10 * k, 1.0, value] for k, value in enumerate(values, start=1)]}


@pytest.mark.parametrize(
    ("values", "settled", "step"),
    [
        ((0.1, 0.8, 0.2, 0.9), 0, 20),
        ((0.1, 0.8, 0.2, 0.9), 30, 40),
        ((0.1, 0.8, 0.9, 0.2), 30, 20),  # what comes after the step does not matter
        ((0.1, 0.8, 0.2), 30, inf),
        ((0.1, None, 0.8), 0, 30),
        ((0.1, 0.2), 0, inf),
    ],
)
def test_a_target_is_reached_at_the_first_evaluation_that_stays_there(values, settled, step):
    assert first_reached(points(*values), 0.8, settled) == step


def test_a_lower_metric_reaches_a_target_from_above():
    assert first_reached(trial("ctr_dlrm", hit=800), 0.7) == 400


def test_an_easier_target_is_reached_at_a_step_that_the_curve_says():
    # From .1 to .8 in a straight line: .45 is half of the way.
    assert steps_to(trial("image_vit", hit=1000), 0.45) == (500, 500)
    assert steps_to(trial("image_vit", hit=1000), 0.8) == (1000, 1000)


def test_a_trial_that_ended_at_its_target_says_of_a_harder_one_only_when_it_was_not_reached():
    assert steps_to(trial("image_vit", hit=1000), 0.81) == (1050, inf)
    assert steps_to(trial("image_vit", hit=3 * STEP_HINT), 0.81) == (inf, inf)


def test_a_miss_and_a_failure_say_of_every_target_whether_they_reached_it():
    miss, failed = trial("image_vit"), trial("image_vit", reason="diverged")
    assert steps_to(miss, 0.8) == steps_to(failed, 0.8) == (inf, inf)
    assert steps_to(miss, 0.7)[0] < inf


def test_a_record_that_somebody_wrote_by_hand_is_read_as_far_as_it_goes():
    bare = {**trial("image_vit", hit=1000), "curve": []}
    assert steps_to(bare, 0.8) == (1001, inf)
    at_start = {**trial("image_vit", hit=1000), "curve": [[0, None, 0.9]]}
    assert steps_to(at_start, 0.8) == (1, 1)


def test_targets_move_towards_what_is_harder_whichever_way_is_better():
    assert moved(POOL, 0.1) == pytest.approx({"ctr_dlrm": 0.45, "image_vit": 0.88})
    assert moved(POOL, -0.1) == pytest.approx({"ctr_dlrm": 0.55, "image_vit": 0.72})


def test_at_its_own_targets_a_pool_has_its_own_scores():
    for name, its in scores(POOL, OWN).items():
        assert its == pytest.approx((POOL.steps[name].score,) * 2)
    assert hits(POOL, OWN) == {"mine": (2, 2), "nadamw": (1, 1)}


def test_at_easier_targets_a_miss_becomes_a_hit():
    assert hits(POOL, moved(POOL, -0.1))["nadamw"] == (2, 2)


def test_at_harder_targets_a_score_is_a_range_that_holds_all_that_may_be_true():
    found = scores(POOL, moved(POOL, 0.01))
    assert found["mine"] == (0, 1)
    assert found["nadamw"] == (0, 0.5)  # it missed ctr_dlrm, which a harder target does not mend
    assert hits(POOL, moved(POOL, 0.01)) == {"mine": (0, 2), "nadamw": (0, 1)}


def test_the_curve_goes_from_3_percent_easier_to_3_percent_harder():
    levels = [level for level, _ in curve(POOL)]
    assert (levels[0], levels[6], levels[-1]) == pytest.approx((-0.03, 0, 0.03))
    assert "<svg" in strictness_curves(POOL, styles(POOL.entrants, ["nadamw"]))


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_every_workload_has_an_easier_and_a_harder_target(workload):
    rules = {**rules_of(read(log(workload))[0]), "target": target(workload)}
    found = Besides.of([workload], {workload.name: rules})
    easier, harder = found.easier[workload.name], found.harder[workload.name]
    assert workload.metric.reached(target(workload), easier)
    assert workload.metric.reached(harder, target(workload))
    assert easier != target(workload) != harder


def test_the_table_shows_ranges_and_the_targets():
    rows = {
        row[0].text: [cell.text for cell in row[1:]] for row in levels_table(POOL, BESIDES).rows
    }
    assert rows["mine"][1::2] == ["2/2", "2/2", "0 to 2/2"]
    assert rows["nadamw"][1::2] == ["2/2", "1/2", "0 to 1/2"]
    shown = [[cell.text for cell in row[-2:]] for row in workloads_table(POOL, BESIDES).rows]
    assert shown == [["0.6", "0.4"], ["0.4", "0.9"]]
    assert levels_table(POOL, Besides({}, {}, {}, {})).rows == ()
