"""Mutation tests: faults put into the optimizers one by one, each of which a test has to find.

    python -m benchmarks.mutants                   # all
    python -m benchmarks.mutants prodigy packing   # those whose file or text has one of these

`mutants.diff` lists them. Each is applied to a copy of the repository, and the tests named for it
run until one fails, which is printed. A mutant that survives shows that an assertion is missing.
The exit status is 1 if one survives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import scipy.optimize  # noqa: F401  imported once, for all forks of this process
import torch
import torch._dynamo

REPOSITORY = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".diff")
# One failing example is enough: no time is spent on a smaller one.
NO_SHRINKING = """
from hypothesis import Phase
settings.register_profile("mutants", settings(phases=[Phase.explicit, Phase.generate]))
settings.load_profile("mutants")
"""


class Mutant(NamedTuple):
    file: str
    old: str
    new: str
    tests: str  # files under tests/, and -k with an expression

    def applied(self, text: str) -> str:
        assert text.count(self.old) == 1, f"{self.file} does not have this once:\n{self.old}"
        return text.replace(self.old, self.new)

    def shown(self) -> str:
        """The first line that differs, before and after."""
        old, new = self.old.splitlines(), self.new.splitlines()
        while old and new and old[0] == new[0]:
            del old[0], new[0]
        one, other = ("".join(lines[:1]).strip() or "(nothing)" for lines in (old, new))
        return f"`{one}` -> `{other}`"


def listed() -> Iterator[Mutant]:
    """The mutants of `mutants.diff`.

    A file's section begins with `== FILE: TESTS`. A mutant is a paragraph of lines that begin with
    `-` and of those that take their place, with `+`; a line `@ TESTS` names tests of its own. Tests
    are files, and may end in `-k EXPRESSION`, as pytest takes it.
    """
    for section in re.split(r"^== ", LIST.read_text(), flags=re.MULTILINE)[1:]:
        header, *paragraphs = re.split(r"\n{2,}", section.strip("\n"))
        file, tests = header.split(": ")
        for paragraph in paragraphs:
            lines = {sign: [] for sign in "@-+"}
            for line in paragraph.splitlines():
                lines[line[0]].append(line[1:])
            old, new = ("\n".join(lines[sign]) for sign in "-+")
            yield Mutant(file, old, new, " ".join(lines["@"]).strip() or tests)


def first_failure(tests: str, folder: Path) -> str | None:
    """The first test that fails, with its parameters; None if all pass."""
    names, _, expression = tests.partition(" -k ")
    files = [f"tests/{name}.py" for name in names.split()]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-k", expression]
    log = folder / "log"
    child = os.fork()
    if not child:
        status = 1
        try:
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            with log.open("w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            status = pytest.main([*options, *files])
        finally:
            sys.stdout.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1] == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) \S*?(\w+\.py\S*)", log.read_text(), flags=re.MULTILINE)
    assert found, log.read_text()[-2000:]
    return found[1].replace(".py::", "::")


def main(parts: list[str]) -> int:
    chosen = [m for m in listed() if not parts or any(part in m.file + m.old for part in parts)]
    survivors = 0
    sys.dont_write_bytecode = True  # a mutant may have the same size and time as the last one
    torch.set_num_threads(1)
    assert "selftune" not in sys.modules
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy"
        names = subprocess.run(
            ["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
        with (folder / "tests" / "conftest.py").open("a") as conftest:
            conftest.write(NO_SHRINKING)
        print("| file | mutation | found by |\n|---|---|---|", flush=True)
        for mutant in chosen:
            file = folder / mutant.file
            text = file.read_text()
            file.write_text(mutant.applied(text))
            test = first_failure(mutant.tests, folder)
            file.write_text(text)
            survivors += test is None
            name = mutant.file.removeprefix("selftune/")
            row = name, mutant.shown().replace("|", "\\|"), test or "**survives**"
            print("| " + " | ".join(row) + " |", flush=True)
    print(f"\n{len(chosen) - survivors} of {len(chosen)} mutants are found.")
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
