"""CI installs the same versions until somebody changes them."""

import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")  # since Python 3.11
REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LINES = (REPOSITORY / ".ci" / "constraints.txt").read_text().splitlines()
PINNED = dict(line.split("==") for line in LINES if not line.startswith("#"))
SCRIPTS = [path for path in sorted((REPOSITORY / ".ci").iterdir()) if path.suffix != ".txt"]


def names(requirements: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[]", one)[0]).lower() for one in requirements}


def test_every_package_that_ci_installs_has_one_version() -> None:
    wanted = names(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        wanted |= names(extra)
    assert wanted - {"torch"} <= PINNED.keys()
    assert all(re.fullmatch(r"[\w.]+", version) for version in PINNED.values())


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_a_version_that_an_extra_names_is_that_of_ci(extra: str) -> None:
    for one in PROJECT["optional-dependencies"][extra]:
        if "==" in one:
            (name,) = names([one])
            assert PINNED[name] == one.split("==")[1]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_installation_of_ci_is_held_to_these_versions(path: Path) -> None:
    text = path.read_text().replace("\\\n", "")
    commands = re.findall(r"pip\"? install .*", text)
    assert commands
    for command in commands:
        assert "-c .ci/constraints.txt" in command or "--no-deps" in command


def test_the_contract_runs_on_the_oldest_torch_and_on_the_newest() -> None:
    text = (REPOSITORY / ".ci" / "torches").read_text()
    (oldest,) = [one for one in PROJECT["dependencies"] if one.startswith("torch>=")]
    assert f"for torch in {oldest.replace('>=', '==')}.0 torch; do" in text
    assert "tests/optim/test_compiled.py tests/optim/test_contract.py" in text
    assert ".ci/torches" in (REPOSITORY / ".ci" / "run").read_text()
