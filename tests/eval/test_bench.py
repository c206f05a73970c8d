from dataclasses import fields

import pytest

from eval.bench import BENCH
from eval.user_workloads import own_workload
from eval.workloads import POCKET, WORKLOADS


def size(workload):
    return sum(p.numel() for p in workload.build_model().parameters())


@pytest.mark.parametrize(
    ("larger", "pocket"), list(zip(BENCH, POCKET, strict=True)), ids=[w.name for w in POCKET]
)
def test_a_bench_workload_is_its_pocket_counterpart_with_ten_times_the_parameters(larger, pocket):
    differing = {
        field.name
        for field in fields(pocket)
        if getattr(larger, field.name) != getattr(pocket, field.name)
    }
    assert differing == {"name", "build_model"}
    assert larger.name == f"{pocket.name}_10x"
    assert size(larger) / size(pocket) == pytest.approx(10, rel=0.07)


def test_the_command_line_finds_them_as_one_finds_workloads_of_ones_own():
    found = own_workload("eval.bench:IMAGE_VIT", WORKLOADS)
    assert found.name == "image_vit_10x"
    assert size(found) > 9 * size(WORKLOADS["image_vit"])
