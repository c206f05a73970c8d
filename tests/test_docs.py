"""The pages in docs/ say what runs: the Python of a page, from top to bottom; and what exists."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import selftune
from benchmarks import diagrams, training_pictures
from benchmarks.conformance import CHECKS

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
TEXTS = {str(page.relative_to(DOCS)): page.read_text() for page in sorted(DOCS.rglob("*.md"))}
PAGES = {
    name: re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) for name, text in TEXTS.items()
}
PAGES = {name: blocks for name, blocks in PAGES.items() if blocks}
del PAGES["frameworks.md"]  # tests/integrations runs it, where the frameworks are
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))


@pytest.mark.parametrize("name", PAGES)
def test_the_python_of_a_page_runs_as_one_program(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__page__", "__file__": str(tmp_path / Path(name).name)}
    for number, block in enumerate(PAGES[name], start=1):
        exec(compile(block, f"{name}, block {number}", "exec"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run_as_one_program(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {"__name__": "__notebook__"}
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "notebooks are kept without their outputs"
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)


def links() -> Iterator[tuple[str, Path, str]]:
    """Of every page the targets of relative links: files, and headings within them."""
    for name, text in {**TEXTS, "../README.md": (REPOSITORY / "README.md").read_text()}.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not target.startswith(("http:", "https:")):
                file, _, heading = target.partition("#")
                yield name, (DOCS / name).parent / file if file else DOCS / name, heading


def headings(text: str) -> set[str]:
    lines = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", line.lower()).strip() for line in lines)
    return {re.sub(r"\s+", "-", each) for each in words}


def test_every_link_leads_somewhere():
    lost = [
        (page, str(file), heading)
        for page, file, heading in links()
        if not file.exists() or (heading and heading not in headings(file.read_text()))
    ]
    assert lost == []


def test_every_page_is_in_the_sites_navigation():
    text = (REPOSITORY / "mkdocs.yml").read_text()
    named = set(re.findall(r": ([\w/]+\.md)$", text, flags=re.MULTILINE))
    assert named == set(TEXTS)
    assert yaml.safe_load(text)["theme"]["font"] is False, "the site fetches nothing"


def test_every_public_name_is_in_the_api_reference():
    for package, names in selftune._NAMES.items():
        listed = set(re.findall(r"\w+", TEXTS[f"api/{package}.md"]))
        assert set(names) <= listed, package


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_a_diagram_is_what_its_script_draws(name):
    drawn = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == diagrams.DIAGRAMS[name](), "python -m benchmarks.diagrams"


def test_the_map_of_the_modules_is_that_of_the_tree():
    text = (DOCS / "design.md").read_text().split("## The library")[1].split("### A rule")[0]
    tops = (
        REPOSITORY / "selftune",
        REPOSITORY / "selftune/optim",
        REPOSITORY / "selftune/optim/engine",
    )
    there = {path.name for top in tops for path in top.glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"\w+\.py", text)) == there


def test_the_diagram_of_the_layers_says_what_imports_what():
    words = set(re.findall(r"[a-z_]+", diagrams.layers()))
    parts = {p.stem for p in (REPOSITORY / "selftune").iterdir() if not p.stem.startswith("_")}
    assert parts - {"py"} <= words


def test_the_pictures_of_training_have_a_curve_for_each_method():
    whole, averaged = training_pictures.curves({"sentence_pairs": training_pictures.EVALUATIONS})
    assert [line.get_label() for line in whole.axes[0].lines] == list(training_pictures.CURVES)
    assert [line.get_label() for line in averaged.axes[0].lines] == ["last iterate", "average"]
    learnt = training_pictures.distances("sentence_pairs", 2).axes[0].lines
    assert [line.get_label() for line in learnt] == list(training_pictures.DISTANCES)


@pytest.mark.skipif(importlib.util.find_spec("griffe") is None, reason="the extra docs is absent")
def test_options_in_docstrings_become_lists():
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "First.\n\nlr: multiplies d,\n    or not.\nd0, d1: two.\nDefaults: theirs.\nother: no"
    assert module.with_lists(text, {"lr", "d0", "d1"}) == (
        "First.\n\n- `lr`: multiplies d,\n    or not.\n- `d0`, `d1`: two.\n\n"
        "Defaults: theirs.\nother: no"
    )


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
