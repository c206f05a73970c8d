"""A checksum of a workload's code, which tells whether two results are of the same workload."""

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

import selftune

from .cli import in_a_line
from .snapshot import is_there, text_of
from .user_code import Reference
from .workload import Workload

EVAL = Path(__file__).parent
SELFTUNE = Path(selftune.__file__).parent
INSTALLED = ("site-packages", "dist-packages")
SHARED = (EVAL / "workloads", EVAL / "data")  # code of the bundled workloads


@cache
def fingerprint(workload: Workload) -> str:
    """The first 16 digits of a sha256 of the workload's source and of its parameters' shapes.

    The source comprises the modules of its five functions and the modules that these import from
    their own folder, without comments, docstrings and layout. Installed packages do not count.
    Raises ValueError, with a message of one line, if the model cannot be built.
    """
    functions = (
        workload.load,
        workload.build_model,
        workload.training_batches,
        workload.loss,
        workload.evaluate,
    )
    arguments = [argument for function in functions for argument in _arguments(function)]
    parts = [*_sources(map(_file, functions)), *arguments, *_shapes(workload)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _shapes(workload: Workload) -> list[str]:
    """Names, shapes and dtypes of the model's state; random generators keep their states."""
    try:
        with torch.random.fork_rng(devices=[]):
            state = workload.build_model().state_dict()
    except Exception as error:
        raise ValueError(
            f"cannot build the model of workload {workload.name}: {in_a_line(error)}"
        ) from error
    return [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in state.items()]


def _plain(function: Callable[..., Any]) -> Any:
    """The function behind a reference or a partial function."""
    if isinstance(function, Reference):
        return _plain(function.value)
    return _plain(function.func) if isinstance(function, partial) else function


def _arguments(function: Callable[..., Any]) -> list[str]:
    """The bound arguments of a partial function; functions among them are given by name."""
    if isinstance(function, Reference):
        return _arguments(function.value)
    if not isinstance(function, partial):
        return []
    bound = [*enumerate(function.args), *sorted(function.keywords.items())]
    own = [f"{name}={getattr(value, '__qualname__', repr(value))}" for name, value in bound]
    return [*_arguments(function.func), *own]


def _file(function: Callable[..., Any]) -> Path | None:
    plain = _plain(function)
    named = plain if hasattr(plain, "__qualname__") else type(plain)
    file = getattr(sys.modules[named.__module__], "__file__", None)
    return file and Path(file)


def _sources(files: Iterable[Path | None]) -> list[str]:
    """A digest of each file's code and of what they import from their folders, sorted."""
    waiting = [file for file in files if file is not None]
    seen = set(waiting)
    folders = {file.parent for file in seen if file.parent.name not in INSTALLED}
    while waiting:
        new = set(_imported(waiting.pop(), folders)) - seen
        seen |= new
        waiting += new
    return sorted(_digest(file) for file in seen)


def _imported(file: Path, folders: set[Path]) -> Iterator[Path]:
    """The workload's own files that `file` imports.

    folders: the folders in which absolute imports are looked up. Whether a module is already
    loaded must not matter, because imports inside functions happen at different times.
    """
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = [node.module] if node.module else []
            names = [".".join([*module, *more]) for more in ([], *([a.name] for a in node.names))]
        else:
            continue
        above = isinstance(node, ast.ImportFrom) and node.level
        for folder in [file.parents[above - 1]] if above else folders:
            for path in (folder.joinpath(*name.split(".")) for name in names):
                for candidate in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
                    if is_there(candidate) and _is_own(candidate):
                        yield candidate


def _is_own(file: Path) -> bool:
    """Whether a file belongs to the workload, and not to the harness or to selftune."""
    if file in [folder / "__init__.py" for folder in SHARED]:
        return False
    within = {EVAL, SELFTUNE} & {*file.parents}
    return not within or any(folder in file.parents for folder in SHARED)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


def _digest(path: Path) -> str:
    return hashlib.sha256(_canonical(_tree(path)).encode()).hexdigest()


def _canonical(node: Any) -> str:
    """A text of the tree that is the same in all versions of Python, unlike `ast.dump`."""
    if isinstance(node, list):
        return f"[{','.join(_canonical(each) for each in node if not _is_docstring(each))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({','.join(f'{n}={_canonical(v)}' for n, v in fields)})"


def _is_docstring(node: Any) -> bool:
    """Whether a statement is a docstring or another string that has no effect."""
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)
