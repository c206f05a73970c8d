"""Things in a user's source, named as `path/to/file.py:NAME` or `package.module:NAME`."""

import hashlib
import importlib
import sys
from dataclasses import dataclass
from functools import cache, reduce
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

from .cli import in_a_line


@dataclass(frozen=True)
class Reference:
    """Something by its place: every process finds it again, when it is used."""

    place: str  # a .py file or the name of a module
    name: str  # in the module; with dots, an attribute of what is there
    sha256: str  # of the source

    @staticmethod
    def of(text: str, kind: str) -> "Reference":
        """What "PLACE:NAME" names; kind says what it should be.

        Raises ValueError, in a line, if the place cannot be imported or has no source.
        """
        place, _, name = text.rpartition(":")
        try:
            module = _module(place)
        except (Exception, SystemExit) as error:
            raise ValueError(f"cannot import the {kind} {text!r}: {in_a_line(error)}") from error
        return Reference(place, name, _sha256_of(module) if module.__file__ else "")

    @property
    def file(self) -> Path:
        return Path(str(_module(self.place).__file__))

    @property
    def source(self) -> Path:
        """Its file. Raises RuntimeError if that is no longer what it was."""
        if _sha256_of(_module(self.place)) != self.sha256:
            raise RuntimeError(f"{self.place} was changed while the run went on")
        return self.file

    @property
    def value(self) -> Any:
        """What is there. Raises AttributeError if there is nothing."""
        return reduce(getattr, self.name.split("."), _module(self.place))

    def get(self) -> Any:
        """What is there, or None."""
        try:
            return self.value
        except AttributeError:
            return None

    def attribute(self, name: str) -> "Reference":
        """A reference to an attribute of what is there."""
        return Reference(self.place, f"{self.name}.{name}", self.sha256)

    def __call__(self, *arguments: Any) -> Any:
        """Call it. Raises RuntimeError if its source has changed."""
        _ = self.source
        return self.value(*arguments)

    def __str__(self) -> str:
        return f"{self.place}:{self.name}"


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).resolve()
    name = f"own_{crc32(bytes(path)):08x}_{path.stem}"  # the stem may be a library's name
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


def _sha256_of(module: ModuleType) -> str:
    path = str(module.__file__)
    state = Path(path).stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@cache
def _sha256(path: str, size: int, changed: int) -> str:
    """size, changed: a function of a workload is called at every step, and its file read once."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
