import gzip
import os
from math import inf
from pathlib import Path

import pytest

from eval.algoperf import published, rebuild_published
from eval.algoperf.benchmark import V05, V06, counted
from eval.algoperf.contest import assemble
from eval.algoperf.published import FIELDS, records
from eval.algoperf.scores import official_score, time


def contest(name):
    return assemble([], FIELDS[name], FIELDS[name].rules)


@pytest.mark.parametrize("name", FIELDS)
def test_every_published_score_comes_out_to_four_digits(name):
    seconds = contest(name).seconds
    assert set(seconds) == set(FIELDS[name].scores)
    for submission, score in FIELDS[name].scores.items():
        assert f"{official_score(seconds[submission]):.4f}" == f"{score:.4f}"


def test_there_are_17_scores_of_v05_and_2_of_v06():
    assert (
        len(FIELDS["published-v0.5"].scores) + len(FIELDS["published-v0.5-external"].scores) == 17
    )
    assert len(FIELDS["published-v0.6-external"].scores) == 2


def test_the_table_is_small():
    assert published.PATH.stat().st_size < 200_000


def test_v05_takes_the_trial_with_the_fewest_evaluations_and_the_first_of_equals():
    trials = [trial(5, 90.0), trial(4, 100.0), trial(4, 80.0)]
    assert counted(trials, V05) is trials[1]
    assert counted(trials, V06) is trials[2]


def test_a_trial_that_reached_the_target_counts_before_those_that_did_not():
    trials = [trial(None, None), trial(9, 900.0)]
    assert counted(trials, V05) is counted(trials, V06) is trials[1]


def test_both_rules_are_needed_for_the_published_scores(monkeypatch):
    # lawa_ema would have .3434 by the smallest time, v0.6's baseline .4716 by the fewest
    # evaluations.
    other = {"v0.5": V06, "v0.6": V05}
    monkeypatch.setattr(published, "counted", lambda t, rules: counted(t, other[rules.name]))
    by_time = contest("published-v0.5-external").seconds["lawa_ema"]
    by_evaluations = contest("published-v0.6-external").seconds["baseline"]
    assert f"{official_score(by_time):.4f}" == "0.3434"
    assert f"{official_score(by_evaluations):.4f}" == "0.4716"


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.has_curves])
def test_the_kept_points_agree_with_the_times_and_get_no_slower_with_relaxation(name):
    for run in records(FIELDS[name]):
        relaxed = [time(run, "seconds", r) for r in (0.0, 0.001, 0.01, 0.02, 0.03, 0.04, 0.05)]
        # the curves' seconds have seven digits
        assert relaxed == pytest.approx(sorted(relaxed, reverse=True), rel=1e-6, abs=0.006)
        if run["outcome"] == "hit":
            assert run["curve"][-1][0] == run["steps_to_target"]
            assert run["seconds"]["curve"][-1] == pytest.approx(relaxed[0], rel=1e-6, abs=0.006)


def test_relaxed_targets_change_the_leader_as_upstream_found():
    pool = contest("published-v0.6-a100")
    leaders = {r: next(iter(pool.standings("seconds", r))) for r in (0.0, 0.01, 0.02)}
    assert leaders == {
        0.0: "schedule_free_adamw_v2",
        0.01: "ademamix",
        0.02: "schedule_free_adamw_jax_v2",
    }
    at_two = pool.standings("seconds", 0.02)["schedule_free_adamw_jax_v2"]
    assert f"{official_score(at_two):.4f}" == "0.5258"


def test_the_table_is_what_the_logs_say():
    checkout = Path(__file__).parents[3]
    shared = Path(os.environ.get("SELFTUNE_SHARED", checkout.parent / "shared")) / "data"
    paths = [shared / f"algoperf_{name}.csv.gz" for name in ("time_to_target", "curves_selftuning")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"needs {paths[0].name}; set SELFTUNE_SHARED to the folder that holds data/")
    rebuilt = rebuild_published.table(*map(rebuild_published.rows, paths))
    assert gzip.decompress(rebuilt) == gzip.decompress(published.PATH.read_bytes())


def trial(eval_index, seconds):
    return {
        "outcome": "miss" if seconds is None else "hit",
        "eval_index": eval_index,
        "seconds": {"to_target": inf if seconds is None else seconds},
    }
