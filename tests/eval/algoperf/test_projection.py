import pytest
from synthetic import studies

from eval.algoperf.benchmark import V05, V06, VERSIONS
from eval.algoperf.projection import overhead, project
from eval.algoperf.tables import projected


def slowed(records, factor):
    for record in records:
        record["seconds"]["training"] *= factor
    return records


def test_the_overhead_is_the_median_ratio_of_step_times_to_nadamw():
    records = [
        *studies("ctr_dlrm", "nadamw", 500, 500),
        *slowed(studies("ctr_dlrm", "mine", 900, 700), 1.2),
        *studies("image_vit", "nadamw", 500),
        *slowed(studies("image_vit", "mine", 500), 1.4),
        *slowed(studies("translation_transformer", "mine", 500), 9.0),  # no nadamw there
    ]
    assert overhead(records, "mine") == pytest.approx(1.3)
    assert overhead(records, "nadamw") == 1


def test_without_both_methods_the_remedy_is_named():
    with pytest.raises(ValueError, match=r"run python -m eval\.self_tuning --method mine,nadamw"):
        overhead(studies("ctr_dlrm", "mine", 500), "mine")


@pytest.mark.parametrize("rules", VERSIONS.values(), ids=VERSIONS)
def test_every_workload_of_every_version_has_published_step_times(rules):
    for projection in project(rules, rules.workloads):
        assert projection.step_seconds > 0
        assert projection.hinted_hours <= projection.most_hours


def test_a_projected_run_costs_its_steps_and_at_most_its_budget():
    (plain,) = project(V05, ["fastmri"])
    (slow,) = project(V05, ["fastmri"], overhead=2.0)
    # the baseline's 36189 steps of 0.2314 s are 2.33 h, the budget is 7.38 h
    assert plain.hinted_hours == pytest.approx(2.33, abs=0.02)
    assert slow.hinted_hours == pytest.approx(2 * plain.hinted_hours)
    assert slow.horizons == pytest.approx(plain.horizons / 2)
    assert plain.most_hours == slow.most_hours == pytest.approx(7.3825)


def test_the_sum_is_near_what_the_published_studies_took():
    # Five studies of the v0.5 baseline: 909 h of training that mostly ended at the target, and
    # 187 h of evaluation. Projected are runs of step_hint steps each.
    projections = project(V05, V05.workloads)
    training = 5 * sum(p.hinted_hours for p in projections)
    evaluation = 5 * sum(p.hinted_hours * p.evaluation_share for p in projections)
    assert 909 / 2 < training < 909 * 2
    assert 187 / 2 < evaluation < 187 * 2


def test_the_table_calls_itself_a_projection_and_counts_the_money():
    shown = projected(project(V06, V06.workloads), studies=3, price=10.0)
    assert shown.title == "A projection, not a measurement"
    hours = int(shown.caption.split("3 studies: ")[1].split(" hours")[0])
    cost = int(shown.caption.split("at 10 an hour ")[1].split(" and")[0].replace(",", ""))
    assert cost == pytest.approx(10 * hours, abs=5)
    assert "an hour" not in projected(project(V06, ["wmt"]), studies=1).caption
