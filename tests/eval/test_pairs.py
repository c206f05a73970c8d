import pytest
from synthetic import studies

from eval.pairs import against_leader, compare, meaning, sign_test
from eval.pool import assemble

ORDER = ["ctr_dlrm", "image_vit"]
RECORDED = [
    *studies("ctr_dlrm", "nadamw", 1000, 900, 1100, 1000),
    *studies("image_vit", "nadamw", None, None, 600, None),
]
RUN = [
    *studies("ctr_dlrm", "mine", 800, 950, 750, 800),
    *studies("image_vit", "mine", 1250, None, 600, 1250),
]
POOL = assemble(RUN, RECORDED, ORDER)


def test_a_pair_is_one_workload_and_one_study_of_both_and_two_misses_are_a_tie():
    found = compare(POOL, "mine", "nadamw")
    assert (found.pairs, found.faster, found.slower) == (8, 5, 1)
    other_way = compare(POOL, "nadamw", "mine")
    assert (other_way.faster, other_way.slower) == (1, 5)
    assert other_way.ratio == pytest.approx(1 / found.ratio)
    assert (other_way.sign, other_way.wilcoxon) == (found.sign, found.wilcoxon)


def test_the_ratio_counts_a_miss_at_the_budget():
    pool = assemble(studies("ctr_dlrm", "a", 750), studies("ctr_dlrm", "b", None), ["ctr_dlrm"])
    assert compare(pool, "a", "b").ratio == pytest.approx(750 / 3000)


def test_the_sign_test_is_the_binomial_one_and_two_sided():
    assert sign_test(6, 0) == pytest.approx(2 / 2**6)
    assert sign_test(0, 6) == pytest.approx(2 / 2**6)
    assert sign_test(0, 0) == 1


def test_wilcoxon_weighs_how_much_faster():
    # Slower in half of the pairs, but by far less than it is faster in the others.
    mine = studies("ctr_dlrm", "a", *range(100, 150, 10), *range(1010, 1060, 10))
    its = studies("ctr_dlrm", "b", *[1000] * 10)
    found = compare(assemble(mine, its, ["ctr_dlrm"]), "a", "b")
    assert found.sign == 1
    assert found.wilcoxon < 0.5 * found.sign


def test_a_method_is_as_fast_as_its_own_repeat():
    found = compare(POOL, "mine", "mine")
    assert (found.faster, found.slower, found.ratio, found.sign, found.wilcoxon) == (0, 0, 1, 1, 1)


def test_the_leader_is_compared_with_everybody_else():
    leader, *others = (entrant.name for entrant in POOL.entrants)
    found = against_leader(POOL)
    assert [(c.first, c.other) for c in found] == [(leader, other) for other in others]


@pytest.mark.parametrize(("pairs", "needed"), [(6, 6), (8, 8), (24, 18)])
def test_a_difference_means_something_from_so_many_pairs_on(pairs, needed):
    assert f"faster in {needed} before" in meaning(pairs)
    assert sign_test(needed, pairs - needed) < 0.05 <= sign_test(needed - 1, pairs - needed + 1)


def test_few_pairs_cannot_tell_anything_apart():
    assert meaning(1).startswith("What a difference means: 1 pair of trials cannot")
    assert "5 pairs of trials cannot" in meaning(5)
