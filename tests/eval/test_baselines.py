import re
from collections import Counter
from math import inf, isfinite
from pathlib import Path
from statistics import geometric_mean

import pytest

from eval import baselines
from eval.baselines.__main__ import main, table
from eval.fingerprint import fingerprint
from eval.methods import METHODS
from eval.pool import assemble
from eval.rules import rules_of
from eval.targets import target
from eval.trial import checksum
from eval.workloads import POCKET, SUITES, WORKLOADS

ORDER = [workload.name for workload in POCKET]
REPOSITORY = Path(__file__).parents[2]
RECORDED = baselines.read()
OTHER_SEED = baselines.read(baselines.RESULTS.with_name("seed_1.jsonl"))
MUON_AND_SHRUNK = baselines.read(baselines.RESULTS.with_name("seed_1_others.jsonl"))
ON_WIDE = baselines.read(baselines.RESULTS.with_name("wide_seed_9.jsonl"))
OTHERS_ON_WIDE = baselines.read(baselines.RESULTS.with_name("wide_seed_9_others.jsonl"))
ONE_STUDY_ON_WIDE = baselines.read(baselines.RESULTS.with_name("wide_seed_9_study_0.jsonl"))


def methods_of(records):
    return {record["method"] for record in records}


def test_the_same_methods_are_recorded_on_both_seeds():
    assert methods_of(RECORDED) == methods_of(OTHER_SEED) <= set(METHODS)


@pytest.mark.parametrize("records", [RECORDED, OTHER_SEED], ids=["seed 0", "seed 1"])
def test_a_recorded_method_is_recorded_on_every_pocket_workload_in_three_studies(records):
    keys = {(r["method"], r["workload"], r["study"]) for r in records}
    recorded = methods_of(records)
    assert keys == {(m, w, study) for m in recorded for w in ORDER for study in range(3)}


def test_the_records_are_of_the_methods_workloads_and_data_of_today():
    for record in RECORDED + OTHER_SEED + ON_WIDE + OTHERS_ON_WIDE + ONE_STUDY_ON_WIDE:
        workload = WORKLOADS[record["workload"]]
        assert record["rules"]["method"] == METHODS[record["method"]].summary
        assert record["rules"]["data"] == checksum(workload)
        assert record["rules"]["step_hint"] == workload.step_hint


def test_the_page_shows_their_table():
    page = (REPOSITORY / "docs" / "benchmark.md").read_text(encoding="utf-8")
    shown = re.search(r"^\| method \| score .*?(?=\n\n)", page, flags=re.MULTILINE | re.DOTALL)
    assert shown
    assert shown[0] == table(assemble(RECORDED, [], ORDER))


def test_readme_shows_the_first_eight_of_both_pools():
    rows = []
    pocket, wide = (
        assemble(
            [r for name in names for r in baselines.read(baselines.RESULTS.with_name(name))],
            [],
            workloads,
        )
        for names, workloads in (
            (("results.jsonl", "published_methods.jsonl"), ORDER),
            (("wide_seed_9.jsonl", "wide_seed_9_others.jsonl"), [w.name for w in SUITES["wide"]]),
        )
    )
    for entrant in pocket.entrants[:8]:
        cells = [
            f"{pool.steps[entrant.name].score:.3f}"[1:] + f", {pool.steps[entrant.name].hits}"
            for pool in (pocket, wide)
        ]
        rows.append(f"| `{entrant.name}` | {' | '.join(cells)} |")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "|---|---|---|\n" + "\n".join(rows) + "\n\n" in readme


def test_the_page_shows_the_table_with_the_published_methods_as_the_command_prints_it(capsys):
    page = (REPOSITORY / "docs" / "benchmark.md").read_text(encoding="utf-8")
    published = baselines.RESULTS.with_name("published_methods.jsonl")
    assert main(["--results", str(baselines.RESULTS), str(published)]) == 0
    assert capsys.readouterr().out.strip() in page


def test_the_page_shows_the_table_of_the_wide_suite_as_the_command_prints_it(capsys):
    page = (REPOSITORY / "docs" / "benchmark.md").read_text(encoding="utf-8")
    files = [str(baselines.RESULTS.with_name(f"wide_seed_9{n}.jsonl")) for n in ("", "_others")]
    assert main(["--suite", "wide", "--results", *files]) == 0
    assert capsys.readouterr().out.strip() in page


def test_several_files_of_trials_make_one_pool(capsys):
    files = [str(baselines.RESULTS.with_name(f"seed_1{name}.jsonl")) for name in ("", "_others")]
    assert main(["--results", *files]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == table(assemble(OTHER_SEED + MUON_AND_SHRUNK, [], ORDER))
    assert all(f"| {name} |" in printed for name in ("self_tune", "muon_torch", "shrunk"))


# The pairs on the wide suite, of those in which either arrives, in which a method is ahead of
# SelfTune, as README and docs/benchmark.md say.
AHEAD = {"muon_jax": 4, "muon_torch": 3}
NEVER_AHEAD = {
    *("schedule_free_prodigy", "schedule_free_v1", "schedule_free_v2"),
    *("lion", "nadamw", "dadapt_adam"),
}


def test_on_the_wide_suite_self_tune_is_first_in_all_but_few_pairs_of_those_in_which_one_arrives():
    trials = ON_WIDE + OTHERS_ON_WIDE
    steps = {(r["method"], r["workload"], r["study"]): r["steps_to_target"] for r in trials}
    for other in methods_of(trials) - {"self_tune"}:
        ours, theirs = (
            {key[1:]: steps[key] or inf for key in steps if key[0] == name}
            for name in ("self_tune", other)
        )
        behind = AHEAD.get(other, int(other not in NEVER_AHEAD))
        pairs = 28 if other in AHEAD else 27
        assert sum(ours[key] < theirs[key] for key in ours) == pairs - behind
        assert sum(ours[key] > theirs[key] for key in ours) == behind


def test_sixteen_methods_are_recorded_on_every_pocket_workload_in_three_studies():
    published = baselines.read(baselines.RESULTS.with_name("published_methods.jsonl"))
    keys = {(r["method"], r["workload"], r["study"]) for r in RECORDED + published}
    recorded = {
        m
        for m in methods_of(RECORDED + published)
        if all((m, w, study) in keys for w in ORDER for study in range(3))
    }
    assert len(recorded) == 16


def test_seventeen_methods_are_recorded_on_every_wide_workload_in_three_studies():
    keys = {(r["method"], r["workload"], r["study"]) for r in ON_WIDE + OTHERS_ON_WIDE}
    recorded = methods_of(ON_WIDE) | methods_of(OTHERS_ON_WIDE)
    names = [workload.name for workload in SUITES["wide"]]
    assert len(recorded) == 17
    assert keys == {(m, w, study) for m in recorded for w in names for study in range(3)}


@pytest.mark.parametrize("study", range(3))
def test_no_method_reaches_more_targets_of_the_wide_suite_than_self_tune(study):
    trials = [r for r in ON_WIDE + OTHERS_ON_WIDE + ONE_STUDY_ON_WIDE if r["study"] == study]
    hits = Counter(r["method"] for r in trials if r["outcome"] == "hit")
    assert {"muon_torch", "muon_jax", "ademamix", "schedule_free_v2"} < set(hits)
    assert hits.pop("self_tune") > max(hits.values())


def test_self_tune_reaches_every_target_and_leads_on_both_seeds():
    for records in (RECORDED, OTHER_SEED):
        ours = [record for record in records if record["method"] == "self_tune"]
        assert all(record["outcome"] == "hit" for record in ours)
        scores = {m: s.score for m, s in assemble(records, [], ORDER).steps.items()}
        best = scores.pop("self_tune")
        assert best > 1.3 * max(scores.values())


def test_self_tune_leads_a_pool_with_muon_and_the_shrunk_distance_by_8_percent():
    assert len(MUON_AND_SHRUNK) == 2 * len(ORDER) * 3
    assert methods_of(MUON_AND_SHRUNK) == {"muon_torch", "shrunk"}
    standings = assemble(OTHER_SEED + MUON_AND_SHRUNK, [], ORDER).steps
    scores = {method: standing.score for method, standing in standings.items()}
    best = scores.pop("self_tune")
    assert best > 1.08 * max(scores.values())


def test_self_tune_needs_seven_tenths_of_the_steps_of_a_calibrated_nadamw():
    for records in (RECORDED, OTHER_SEED):
        ours, theirs = (
            {(r["workload"], r["study"]): r["steps_to_target"] for r in records if r["method"] == m}
            for m in ("self_tune", "nadamw_pocket")
        )
        ratios = [ours[key] / theirs[key] for key in ours if theirs[key]]
        assert len(ratios) >= 18
        assert 0.6 < geometric_mean(ratios) < 0.75


def test_the_conclusions_about_the_others_hold_on_both_seeds():
    pools = [
        assemble([r for r in records if r["method"] != "self_tune"], [], ORDER)
        for records in (RECORDED, OTHER_SEED)
    ]
    assert [entrant.name for entrant in pools[0].entrants] == [e.name for e in pools[1].entrants]
    for method in methods_of(RECORDED) - {"self_tune"}:
        first, second = (pool.steps[method] for pool in pools)
        assert first.hits == second.hits
        assert abs(first.score - second.score) < 0.05


def test_the_page_shows_the_scores_of_both_seeds():
    page = (REPOSITORY / "docs" / "benchmark.md").read_text(encoding="utf-8")
    for seed, records in enumerate((RECORDED, OTHER_SEED)):
        pool = assemble(records, [], ORDER)
        leaders = ("self_tune", "schedule_free_prodigy", "schedule_free_adamw", "nadamw_pocket")
        scores = (f"{pool.steps[m].score:.3f}"[1:] for m in leaders)
        assert re.search(rf"^\| {seed} \| {'.*'.join(map(re.escape, scores))}", page, re.MULTILINE)


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_a_target_that_was_made_before_codes_were_recorded_is_still_valid(workload):
    assert isfinite(target(workload))


@pytest.mark.parametrize("workload", POCKET, ids=ORDER)
def test_recorded_trials_have_the_code_of_today(workload):
    for record in RECORDED + OTHER_SEED:
        if record["workload"] == workload.name:
            assert rules_of(record)["code"] == fingerprint(workload)
