"""The pages in docs/ say what runs: the Python of a page, from top to bottom; and what exists."""

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import selftune
from benchmarks import diagrams, training_pictures
from benchmarks.conformance import CHECKS
from eval import self_tuning

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
TEXTS = {str(page.relative_to(DOCS)): page.read_text() for page in sorted(DOCS.rglob("*.md"))}
PAGES = {
    name: re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) for name, text in TEXTS.items()
}
PAGES = {name: blocks for name, blocks in PAGES.items() if blocks}
del PAGES["frameworks.md"]  # tests/integrations runs it, where the frameworks are
MIGRATIONS = re.findall(r"```diff\n(.*?)```", TEXTS["migrating.md"], flags=re.DOTALL)
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


def changed(diff: str, kept: str) -> str:
    """One side of a diff without headers: "-" is what was there, "+" what is there now."""
    return "".join(
        line[1:] for line in diff.splitlines(keepends=True) if line[0] in (" ", kept, "\n")
    )


@pytest.mark.parametrize("side", "-+")
@pytest.mark.parametrize("number", range(len(MIGRATIONS)))
def test_both_sides_of_a_migration_run(number, side):
    model = torch.nn.Linear(4, 1)
    names = {
        "model": model,
        "num_steps": 3,
        "batches": [(torch.randn(8, 4), torch.randn(8, 1))] * 3,
        "criterion": torch.nn.functional.mse_loss,
        "validate": lambda model: model(torch.randn(8, 4)),
        "CosineAnnealingLR": torch.optim.lr_scheduler.CosineAnnealingLR,
    }
    exec(compile(changed(MIGRATIONS[number], side), f"migrating.md, {side}", "exec"), names)
    assert names["optimizer"].param_groups[0]["params"] == list(model.parameters())


def test_the_diff_that_adds_lion_applies_and_its_tests_pass(tmp_path):
    for folder in ("selftune", "tests", "benchmarks"):
        shutil.copytree(
            REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    [diff] = re.findall(r"```diff\n(.*?)```", TEXTS["adding_lion.md"], flags=re.DOTALL)
    subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, check=True)
    tests = [
        "tests/optim/test_contract.py",
        "tests/optim/test_parity.py",
        "tests/test_tensor_list.py",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "(Lion or sign_) and not compile", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert int(re.findall(r"(\d+) passed", run.stdout)[0]) > 50


def commands() -> Iterator[tuple[str, list[str]]]:
    """`python -m MODULE ARGUMENTS`, wherever a page or README has it as a line of its own."""
    pages = {**TEXTS, "../README.md": (REPOSITORY / "README.md").read_text()}
    del pages["log.md"]  # what was run once
    del pages["own_workload.md"]  # tests/eval/test_own_workload.py runs it
    for text in pages.values():
        for part in re.split(r" && |\n", text.replace("\\\n", " ")):
            found = re.match(r" *(?:\S*/)?python -m ((?:benchmarks|eval|selftune)\S*)(.*)", part)
            if found:
                yield found[1], shlex.split(found[2], comments=True)


COMMANDS = list(commands())


@pytest.mark.parametrize(
    ("module", "arguments"), COMMANDS, ids=[" ".join((m, *a)) for m, a in COMMANDS]
)
def test_a_command_of_a_page_exists_and_takes_its_arguments(module, arguments, capsys):
    assert importlib.util.find_spec(module) is not None
    if module.startswith("benchmarks"):
        source = (REPOSITORY / f"{module.replace('.', '/')}.py") if arguments else None
        assert not source or arguments[0] in source.read_text()
        return
    inside = importlib.import_module(module)
    if not hasattr(inside, "main"):
        inside = importlib.import_module(f"{module}.__main__")
    with pytest.raises(SystemExit) as exited:
        # It looks at what comes before, then says what it takes.
        inside.main([*arguments, "--help"])
    printed = capsys.readouterr()
    assert exited.value.code == 0, printed.err
    assert [word for word in arguments if word[:2] == "--" and word not in printed.out] == []


def test_every_benchmark_on_a_page_has_a_plan(capsys, tmp_path):
    planned = [a for m, a in COMMANDS if m == "eval.self_tuning" and "full" not in a]
    assert len(planned) > 3
    for arguments in planned:
        assert self_tuning.main([*arguments, "--out", str(tmp_path), "--dry-run"]) == 0


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
ROWS = [row for row in ROWS if row[0] != " package "]


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


def texts(source: str) -> Iterator[str]:
    """Every string of a module, with "…" for what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_messages_that_are_explained_are_those_of_the_library():
    section = TEXTS["questions.md"].split("## What the messages mean\n")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `(.+?)` \|", section, flags=re.MULTILINE)
    assert len(messages) > 9
    said = {t for path in (REPOSITORY / "selftune").rglob("*.py") for t in texts(path.read_text())}
    assert [m for m in messages if not any(m in text for text in said)] == []
