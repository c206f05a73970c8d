"""The pages in docs/ say what runs: the Python of a page, from top to bottom; and what exists."""

import re
from pathlib import Path

import pytest

from benchmarks.conformance import CHECKS

REPOSITORY = Path(__file__).parents[1]
PAGES = {
    page.name: re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    for page in sorted((REPOSITORY / "docs").glob("*.md"))
}
PAGES = {name: blocks for name, blocks in PAGES.items() if blocks}


@pytest.mark.parametrize("name", PAGES)
def test_the_python_of_a_page_runs_as_one_program(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__page__", "__file__": str(tmp_path / name)}
    for number, block in enumerate(PAGES[name], start=1):
        exec(compile(block, f"{name}, block {number}", "exec"), names)


DEFECTS = (REPOSITORY / "docs" / "defects.md").read_text()
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in DEFECTS.splitlines() if line[:2] == "| "]
ROWS = [row for row in ROWS if row[0] != " peer "]


def test_the_tests_named_beside_defects_exist():
    sources = {path.stem: path.read_text() for path in REPOSITORY.glob("tests/**/test_*.py")}
    named = set(re.findall(r"`(test_\w+)::(test_\w+)`", DEFECTS))
    assert [n for n in sorted(named) if f"\ndef {n[1]}(" not in sources.get(n[0], "")] == []


def test_every_defect_has_a_test_or_a_check():
    assert len(ROWS) > 80
    for peer, defect, tests in ROWS:
        checks = re.findall(r"\*([^*]+)\*", tests)
        assert set(checks) <= CHECKS.keys()
        assert checks or "::test_" in tests, (peer, defect)
