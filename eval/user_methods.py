"""The methods a user names, his own among them, as `path/to/file.py:function` or
`package.module:function`.
"""

import hashlib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from zlib import crc32

from torch import nn

from .cli import in_a_line, listed, one
from .methods import Built, Method


@dataclass(frozen=True)
class Reference:
    """A build function by its place: every process finds it again, when it is called."""

    place: str  # a .py file or the name of a module
    function: str
    sha256: str  # of the source

    @property
    def source(self) -> Path:
        """Its file. Raises RuntimeError if that is no longer what it was."""
        module = _module(self.place)
        assert module.__file__ is not None
        if _sha256(module) != self.sha256:
            raise RuntimeError(f"{self.place} was changed while the run went on")
        return Path(module.__file__)

    def __call__(self, model: nn.Module, num_steps: int) -> Built:
        module, _ = _module(self.place), self.source
        return getattr(module, self.function)(model, num_steps)


def chosen_methods(names: str, known: Mapping[str, Method]) -> list[Method]:
    """The methods of "a,b" or of "all". Raises ValueError if one is unknown or two share a name."""
    methods = [
        own_method(name)
        if ":" in name
        else one(name, known, "method", ", all or your own as path/to/file.py:function")
        for name in listed(names, known)
    ]
    by_name = [method.name for method in methods]
    for name in by_name:
        if by_name.count(name) > 1:
            raise ValueError(f"two methods are called {name!r}; rename one of the functions")
    return methods


def own_method(reference: str) -> Method:
    """The method at a place. Raises ValueError, in a line, if there is none.

    It is known by its function's name and, in the rules, by its source's sha256.
    """
    place, _, function = reference.rpartition(":")
    try:
        module = _module(place)
    except (Exception, SystemExit) as error:
        raise ValueError(f"cannot import the method {reference!r}: {in_a_line(error)}") from error
    if not callable(getattr(module, function, None)) or module.__file__ is None:
        raise ValueError(
            f"{place} has no function {function!r}; write --method {place}:FUNCTION, where "
            "FUNCTION(model, num_steps) returns an optimizer, a scheduler and its weights"
        )
    sha256 = _sha256(module)
    return Method(
        name=function,
        summary=f"source with sha256 {sha256[:16]}",
        weight_decay="as its source has it",
        build=Reference(place, function, sha256),
    )


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).resolve()
    name = f"own_method_{crc32(bytes(path)):08x}_{path.stem}"  # the stem may be a library's name
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.path.append(str(path.parent))  # it may import what lies beside it
        sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _sha256(module: ModuleType) -> str:
    assert module.__file__ is not None
    return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
