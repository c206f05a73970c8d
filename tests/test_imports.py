"""The imports between modules of selftune: no circles, and layers that data flow up through."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import selftune.optim

PACKAGE = Path(selftune.optim.__file__).parents[1]
LAYERS = ("schedules", "refinement", "ablation")  # each may import those before it
# Modules of selftune.optim that run rules or wrap optimizers; all others hold rules.
NO_RULES = {"optimizer", "attachment", "partition", "schedule_free_wrapper", "wrapping", "__init__"}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may run, within functions too; not those for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from running(other)
            continue
        yield node
        yield from running(node)


def imports_of(text: str) -> set[str]:
    """The modules of selftune that a source text imports, by their full names."""
    found = set()
    for node in running(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in inner}
    return found & MODULES.keys()


IMPORTS = {name: imports_of(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def circle(imports: dict[str, set[str]]) -> list[str] | None:
    """Modules that import each other in turn; None if there are none."""
    done: set[str] = set()

    def search(name: str, above: list[str]) -> list[str] | None:
        if name in above:
            return above[above.index(name) :]
        if name in done:
            return None
        found = next(filter(None, (search(n, [*above, name]) for n in sorted(imports[name]))), None)
        done.add(name)
        return found

    return next(filter(None, (search(name, []) for name in imports)), None)


def packages_of(name: str) -> set[str]:
    """The packages of selftune that a module imports from."""
    return {module.split(".")[1] for module in IMPORTS[name] if "." in module}


def test_no_modules_import_each_other_in_a_circle():
    assert circle(IMPORTS) is None


def test_a_circle_is_found_where_there_is_one():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_an_import_within_a_function_counts_and_one_for_type_checkers_does_not():
    deferred = "def f():\n    from selftune.schedules import plot\n"
    typed = "if TYPE_CHECKING:\n    from selftune.schedules.plot import plot_schedules\n"
    assert imports_of(deferred) == {"selftune.schedules.plot"}
    assert imports_of(typed) == set()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_none_that_stands_above_it(layer):
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    # `python -m selftune.schedules` is the one way up: the command that people know by that name.
    within = [
        name
        for name in MODULES
        if f"{name}.".startswith(f"selftune.{layer}.") and not name.endswith("__main__")
    ]
    assert within
    assert {name: packages_of(name) & above for name in within if packages_of(name) & above} == {}


def test_the_library_knows_nothing_of_the_harness():
    for name, path in MODULES.items():
        assert "from eval" not in path.read_text(encoding="utf-8"), name


def test_nothing_imports_the_integrations():
    within = {name for name in MODULES if f"{name}.".startswith("selftune.integrations.")}
    assert "selftune.integrations.transformers" in within
    for name in sorted(MODULES.keys() - within):
        assert not IMPORTS[name] & within, f"{name} imports {IMPORTS[name] & within}"


def test_integrations_do_not_import_each_other():
    shared = {"selftune.integrations", "selftune.integrations.framework"}
    for name in (name for name in MODULES if name.startswith("selftune.integrations.")):
        others = {n for n in IMPORTS[name] if n.startswith("selftune.integrations")} - shared
        assert not others, f"{name} imports {others}"


def test_rules_import_nothing_of_the_engine_but_the_checks_of_options():
    rules = {path.stem for path in (PACKAGE / "optim").glob("*.py")} - NO_RULES
    assert "prodigy" in rules
    for rule in sorted(rules):
        engine = {n for n in IMPORTS[f"selftune.optim.{rule}"] if ".engine" in n}
        engine.discard("selftune.optim.engine.options")
        assert not engine, f"{rule} imports {engine}: have optimizer.py export what it needs"


def test_the_engine_imports_no_rule():
    engine = {name for name in MODULES if ".engine" in name}
    assert engine
    for name in sorted(engine):
        outside = {n for n in IMPORTS[name] - engine if n.startswith("selftune.optim")}
        assert not outside, f"{name} imports {outside}"
