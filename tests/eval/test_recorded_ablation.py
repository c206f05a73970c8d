"""docs/ablation: the records of the ablation on all workloads, and what the page shows of them."""

from pathlib import Path

from eval.ablation.axes import Axes
from eval.ablation.cells import cells
from eval.ablation.tables import gains_table, grid
from eval.reporting.text import markdown_table
from eval.results import read
from eval.trial import checksum
from eval.workloads import POCKET, WORKLOADS

FOLDER = Path(__file__).parents[2] / "docs" / "ablation"
AXES = Axes.of(
    "schedule=cosine,linear,wsd,constant,refined; averaging=none,ema,lawa,tail",
)
RECORDED = read(FOLDER / "results.jsonl")


def test_every_cell_is_recorded_on_every_workload_in_three_studies():
    keys = {(r["schedule"], r["workload"], r["study"]) for r in RECORDED}
    assert keys == {
        (s, w.name, study) for s in AXES.schedules for w in POCKET for study in range(3)
    }
    for record in RECORDED:
        assert set(record["averages"]) == {"ema", "lawa", "tail"}
        assert record["rules"]["data"] == checksum(WORKLOADS[record["workload"]])


def test_the_page_shows_their_table():
    table = gains_table("nadamw_pocket", grid(cells(RECORDED, AXES), "nadamw_pocket"))
    assert markdown_table(table) in (FOLDER / "ablation.md").read_text(encoding="utf-8")
