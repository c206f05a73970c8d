import pytest
from synthetic import studies

from eval import oracle
from eval.intervals import oracle_intervals
from eval.pool import assemble
from eval.reporting.scales import oracle_table
from eval.reporting.text import text_table
from eval.results import read
from eval.rules import rules_of
from eval.targets import log, target
from eval.targets.besides import Besides
from eval.targets.protocol import seeds_of_best
from eval.workloads import POCKET, WORKLOADS

ORDER = ["ctr_dlrm", "image_vit"]
RECORDED = [
    *studies("ctr_dlrm", "nadamw", 1000, 900, 1100),
    *studies("image_vit", "nadamw", None, None, 600),
]
RUN = [
    *studies("ctr_dlrm", "mine", 800, 850, 750),
    *studies("image_vit", "mine", 1250, 1250, 1250),
]
SEARCHED = {"ctr_dlrm": 400, "image_vit": 500}
POOL = assemble(RUN, RECORDED, ORDER)


def rules_of_log(workload):
    return {**rules_of(read(log(workload))[0]), "target": target(workload)}


def test_the_ratio_is_the_geometric_mean_with_a_miss_at_the_budget():
    assert oracle.ratio(POOL, "mine", SEARCHED) == pytest.approx((2 * 2.5) ** 0.5)
    assert oracle.ratio(POOL, "nadamw", SEARCHED) == pytest.approx((2.5 * 6) ** 0.5)


def test_the_ratio_to_the_search_is_the_same_in_every_pool():
    alone = assemble(RUN, [], ORDER)
    assert oracle.ratio(alone, "mine", SEARCHED) == oracle.ratio(POOL, "mine", SEARCHED)


def test_the_recorded_oracle_is_the_fastest_recorded_method_and_lacks_what_nobody_reached():
    assert oracle.of_recorded(POOL) == {"ctr_dlrm": 1000}
    assert oracle.of_recorded(assemble(RUN, [], ORDER)) == {}


def test_the_interval_of_a_ratio_holds_it_and_is_a_point_where_nothing_varies():
    for name, (low, high) in oracle_intervals(POOL, SEARCHED).items():
        assert low <= oracle.ratio(POOL, name, SEARCHED) <= high
    alone = assemble(studies("ctr_dlrm", "mine", 800, 800, 800), [], ORDER[:1])
    assert oracle_intervals(alone, {"ctr_dlrm": 400})["mine"] == pytest.approx((2, 2))


def test_the_interval_is_over_the_oracles_workloads_alone():
    assert oracle_intervals(POOL, {"image_vit": 500})["mine"] == pytest.approx((2.5, 2.5))


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_the_best_configuration_of_every_search_reaches_its_target_within_step_hint(workload):
    steps = Besides.of([workload], {workload.name: rules_of_log(workload)}).steps
    assert 0 < steps[workload.name] <= workload.step_hint
    reached = [
        record
        for record in seeds_of_best(workload, read(log(workload)))
        if workload.metric.reached(record["best_validation"], target(workload))
    ]
    assert len(reached) >= 3  # so that the median of five is finite


@pytest.mark.parametrize("name", ["data", "code", "step_hint"])
def test_a_search_of_another_version_is_no_oracle(name):
    workload = POCKET[0]
    rules = rules_of_log(workload)
    assert Besides.of([workload], {workload.name: {**rules, name: 7}}).steps == {}
    assert Besides.of([workload], {"elsewhere": rules}).steps == {}


def test_a_target_that_no_seed_reached_has_no_oracle():
    workload = POCKET[0]
    rules = {**rules_of_log(workload), "target": 0.1}  # of the log loss
    assert Besides.of([workload], {workload.name: rules}).steps == {}


def test_the_table_marks_misses_and_says_which_workloads_have_no_search():
    text = text_table(oracle_table(POOL, SEARCHED))
    assert ">6.00" in text
    assert "Without" not in text
    text = text_table(oracle_table(POOL, {"ctr_dlrm": 400}))
    assert "Without one workload, for which there is no search" in " ".join(text.split())
    assert oracle_table(POOL, {}).rows == ()
