"""`python -m benchmarks.frameworks`: the table of docs/frameworks.md."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.metadata
import inspect
import io
import logging
import os
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

from benchmarks.frameworks.subjects import SUBJECTS, Outcome, Subject

# Scripts by the package that they need.
SCRIPTS = {
    "transformers": "in_transformers",
    "accelerate": "in_accelerate",
    "lightning": "in_lightning",
    "timm": "in_timm",
    "fastai": "in_fastai",
    "skorch": "in_skorch",
    "pytorch-ignite": "in_ignite",
}


def lines(script: ModuleType, package: str) -> int:
    """The number of lines that a package needs in a script, including imports."""
    tree = ast.parse(inspect.getsource(script))
    bodies = [
        statement
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and f"{node.name}_".startswith(f"wire_{package}_")
        for statement in node.body
        if not (isinstance(statement, ast.Return) and isinstance(statement.value, ast.Name))
    ]
    return sum((each.end_lineno or each.lineno) - each.lineno + 1 for each in bodies)


def outcome(script: ModuleType, subject: Subject) -> Outcome:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return script.run(subject, Path(folder))


def row(package: str, script: ModuleType, subject: Subject) -> str:
    version = importlib.metadata.version(package)
    cells = ["yes" if cell else "**no**" for cell in outcome(script, subject)]
    name = f"{subject.package} `{subject.name}`"
    return " | ".join(
        [f"| {package} {version}", name, *cells, f"{lines(script, subject.package)} |"]
    )


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("| framework | optimizer | validated | best | saved | resumed | logged | lines |")
    print("|---|---|---|---|---|---|---|---:|")
    for package, name in SCRIPTS.items():
        try:
            script = importlib.import_module(f"benchmarks.frameworks.{name}")
        except ModuleNotFoundError as error:
            print(f"| {package} | not installed: {error.name} | | | | | | |")
            continue
        for subject in SUBJECTS:
            print(row(package, script, subject), flush=True)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
