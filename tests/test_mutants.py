"""The list of mutants fits the code: each can still be made, and the tests named for it exist."""

import ast
from pathlib import Path

from benchmarks.mutants import listed

REPOSITORY = Path(__file__).parents[1]
MUTANTS = list(listed())


def test_every_mutant_is_another_program():
    for mutant in MUTANTS:
        text = (REPOSITORY / mutant.file).read_text()
        changed = mutant.applied(text)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)), mutant


def test_the_tests_named_for_a_mutant_exist():
    files = {name for m in MUTANTS for name in m.tests.partition(" -k ")[0].split()}
    assert [name for name in files if not (REPOSITORY / f"tests/{name}.py").exists()] == []


def test_every_rule_has_mutants():
    optim = REPOSITORY / "selftune" / "optim"
    rules = {path for path in optim.glob("*.py") if "def update(b: Bucket)" in path.read_text()}
    assert {str(path.relative_to(REPOSITORY)) for path in rules} <= {m.file for m in MUTANTS}
