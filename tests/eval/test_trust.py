import re
from math import inf
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from eval import trust
from eval.algoperf.published import FIELDS
from eval.correlation import Correlation, kendall, spearman
from eval.methods import METHODS
from eval.trust import COUNTERPARTS, recorded_pool
from eval.workloads import POCKET

DOCS = Path(__file__).parents[2] / "docs"
RECORDED = trust.recorded()
TIED = [3.0, 1.0, 1.0, 2.0, 5.0, 5.0, 4.0], [1.0, 1.0, 0.0, 2.0, 2.0, 6.0, 3.0]


def test_the_correlations_are_scipys_ties_included():
    first, second = map(np.array, TIED)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(*TIED).statistic)
    assert kendall(first, second) == pytest.approx(stats.kendalltau(*TIED).statistic)


def test_many_samples_at_once_have_the_correlations_of_each():
    rng = np.random.default_rng(0)
    first, second = rng.integers(4, size=(2, 20, 6)).astype(float)
    for correlation in (spearman, kendall):
        one_by_one = [correlation(a, b) for a, b in zip(first, second, strict=True)]
        assert np.array_equal(correlation(first, second), one_by_one, equal_nan=True)


def test_an_interval_holds_the_correlation_and_narrows_with_the_pairs():
    few, many = Correlation.of(*TIED), Correlation.of(*(8 * each for each in TIED))
    assert few is not None
    assert many is not None
    low, high = few.spearman_interval
    assert low < few.spearman < high
    assert many.spearman_interval[1] - many.spearman_interval[0] < high - low
    assert Correlation.of(*TIED) == few


def test_the_same_order_is_1_and_the_reverse_minus_1_and_misses_are_equal_to_each_other():
    same = Correlation.of([1, 2, 3, inf, inf], [10, 20, 30, inf, inf])
    reverse = Correlation.of([1, 2, 3], [3, 2, 1])
    assert same is not None
    assert reverse is not None
    assert (same.spearman, same.kendall) == pytest.approx((1, 1))
    assert (reverse.spearman, reverse.kendall) == pytest.approx((-1, -1))


@pytest.mark.parametrize("pair", [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_few_pairs_and_equal_numbers_have_no_correlation(pair):
    assert Correlation.of(*pair) is None


@pytest.mark.parametrize("field", COUNTERPARTS)
def test_counterparts_are_methods_and_submissions_that_exist(field):
    for submission, methods in COUNTERPARTS[field].items():
        assert submission in FIELDS[field].scores
        assert set(methods) <= set(METHODS)


def test_only_published_methods_recorded_on_all_of_the_workloads_are_compared():
    names = [workload.name for workload in POCKET]
    whole = {entrant.name for entrant in recorded_pool(RECORDED, names, 1).entrants}
    assert {"nadamw", "schedule_free_adamw"} <= whole <= trust.METHODS
    without = [r for r in RECORDED if (r["method"], r["workload"]) != ("nadamw", names[0])]
    assert {e.name for e in recorded_pool(without, names, 1).entrants} == whole - {"nadamw"}
    assert "nadamw" in {e.name for e in recorded_pool(without, names[1:], 1).entrants}
    with pytest.raises(ValueError, match="no published method is recorded on all of"):
        recorded_pool([], names, 1)


def test_with_more_studies_only_methods_recorded_in_all_of_them_are_compared():
    names = [workload.name for workload in POCKET]
    first = [record for record in RECORDED if record["study"] == 0]
    again = [{**r, "study": 1} for r in first if r["method"] in ("muon_torch", "lion")]
    compared = recorded_pool(first + again, names, 2).entrants
    assert {entrant.name for entrant in compared} == {"muon_torch", "lion"}
    (without,) = recorded_pool(first + again[:-1], names, 2).entrants
    assert without.name == again[0]["method"] != again[-1]["method"]


def test_the_page_gives_the_correlation_over_three_studies(capsys):
    assert trust.main(["--studies", "3"]) == 0
    page = (DOCS / "trust.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| published-v0.6-a100 \| score(?: by seconds)? \| .*$", capsys.readouterr().out, re.M
    )
    assert len(rows) == 2
    for row in rows:
        _, _, _, pairs, spearman, interval, *_ = map(str.strip, row.split("|"))
        assert pairs == "8"
        assert f"{spearman} ({interval})" in page


def test_more_studies_than_are_recorded_are_refused_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        trust.main(["--studies", "99"])
    assert ended.value.code == 2
    assert "in as many studies as 99; choose fewer" in " ".join(capsys.readouterr().err.split())


def test_records_of_published_methods_are_of_the_methods_of_today():
    for record in trust.read_records(trust.PUBLISHED_METHODS):
        assert record["rules"]["method"] == METHODS[record["method"]].summary
        assert record["rules"]["seed"] == 0


def test_the_command_prints_the_tables_of_the_page(tmp_path, capsys):
    assert trust.main(["--out", str(tmp_path)]) == 0
    page = (DOCS / "trust.md").read_text(encoding="utf-8")
    printed = re.findall(r"^\|.*?(?=\n\n)", capsys.readouterr().out, re.MULTILINE | re.DOTALL)
    assert len(printed) == 3
    for table in printed:
        assert table in page
    assert "<svg" in (tmp_path / "trust.svg").read_text()


def test_the_page_shows_the_scores_on_one_workload_too(capsys):
    assert trust.main(["--workload", "mri_unet"]) == 0
    page = (DOCS / "trust.md").read_text(encoding="utf-8")
    printed = re.findall(r"^\|.*?(?=\n\n)", capsys.readouterr().out, re.MULTILINE | re.DOTALL)
    assert printed[0] in page


def test_an_unknown_workload_is_refused_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        trust.main(["--workload", "ctr"])
    assert ended.value.code == 2
    assert "did you mean ctr_dlrm?" in capsys.readouterr().err
