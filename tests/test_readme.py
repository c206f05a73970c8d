"""README says what runs: its commands and its code."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
COMMANDS = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
CODE = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_two_commands_do_all_the_setup() -> None:
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        create, install, run = command.split(" && ")
        assert create == "python3 -m venv .venv"
        assert install.startswith(".venv/bin/pip install ")
        assert run.startswith(".venv/bin/python -m ")


def test_the_extras_named_in_the_commands_exist() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    for command in COMMANDS:
        found = re.search(r"'\.\[(.*?)\]'", command)
        assert found
        for extra in found[1].split(","):
            assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE)


def test_the_main_command_plans_all_eight_workloads() -> None:
    run = COMMANDS[0].split(" && ")[-1]
    arguments = shlex.split(run)[1:]
    result = subprocess.run(
        [sys.executable, *arguments, "--dry-run"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "24 trials" in result.stdout


@pytest.mark.parametrize("code", CODE)
def test_its_python_runs(
    code: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # it saves a file
    exec(compile(code, "README.md", "exec"), {"__name__": "__readme__"})


def test_its_first_screen_is_short() -> None:
    assert len(README.splitlines()) <= 120
    assert "SelfTune(" in CODE[0]


METHODS = re.search(
    r"^\| \| what it needs from you \|.*?\n\n",
    (REPOSITORY / "docs" / "which.md").read_text(),
    flags=re.MULTILINE | re.DOTALL,
)
EAGER, COMPILED = (
    (REPOSITORY / "docs" / "speed.md")
    .read_text()
    .split("\n## Compiled by torch.compile alone\n", maxsplit=1)
)


def printed(problem: str, text: str) -> dict[str, list[str]]:
    """The rows of the first table of two threads in a part of docs/speed.md, by name."""
    table = re.search(
        rf"^\({problem}\) [^\n]* 2 threads.*?(?=^\(|\Z)", text, flags=re.MULTILINE | re.DOTALL
    )
    assert table
    rows = [line.strip("| ").split(" | ") for line in table[0].splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_methods_cost_what_the_printed_tables_say() -> None:
    assert METHODS
    compiled, eager = ([printed(problem, text) for problem in "ab"] for text in (COMPILED, EAGER))
    names_of_columns = compiled[0]["optimizer"]
    assert eager[0]["optimizer"] == names_of_columns
    fused, state = (names_of_columns.index(column) for column in ("to fused", "state bytes"))
    rows = METHODS[0].strip().splitlines()[2:]
    assert "`SelfTune`" in rows[0]
    for line in rows:
        names, _, bytes_of_state, step, eager_step, _ = line.strip("| ").split(" | ")
        classes = re.findall(r"`(\w+)`", names)
        assert classes or "ScheduleFree(base)" in names
        times = [f"{c}(compile)" for c in classes]
        if classes:
            assert step == ", ".join(" / ".join(t[c][fused] for t in compiled) for c in times)
        if eager_step != "not measured" and classes:
            assert bytes_of_state == ", ".join(f"{float(eager[0][c][state]):g}" for c in classes)
            assert eager_step == ", ".join(" / ".join(t[c][fused] for t in eager) for c in classes)
        else:
            assert "`SelfTune`" in names or "ScheduleFree(base)" in names
