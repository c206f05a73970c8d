"""Snapshots of the source of a user's module, and of the modules that it imports from its folder.

The files may be edited while a run takes hours; all its processes import from the snapshot.
"""

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source, find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from zlib import crc32

OURS = ("eval", "selftune")  # packages whose version is in the records
_TEXTS: dict[Path, str] = {}  # the sources in loaded snapshots
_ADDED: set[str] = set()  # folders that snapshots have appended to Python's path


@dataclass(frozen=True)
class Source:
    path: str
    text: str
    is_package: bool


_Sources = tuple[tuple[str, Source], ...]


@dataclass(frozen=True)
class Snapshot:
    """A module and the modules that it imports from the same folder or package, by name."""

    module: str
    folder: str | None  # to be added to Python's path
    sources: _Sources

    @staticmethod
    def of(place: str) -> "Snapshot":
        """Take a snapshot of a .py file or a module. Raises ImportError or OSError if missing."""
        if place.endswith(".py"):
            path = Path(place).resolve()
            source = _source(path)
            # The stem may be the name of a library.
            number = crc32(f"{path}\n{source.text}".encode("utf-8", "surrogateescape"))
            name = f"own_method_{number:08x}_{path.stem}"
            start = {name: source}
            return Snapshot(name, str(path.parent), _with_neighbours(start, path.parent))
        spec = find_spec(place)
        if spec is None:
            raise ImportError(f"no module named {place!r}")
        if spec.origin is None or not spec.origin.endswith(".py"):
            raise ImportError(f"{place} has no source in Python")
        top = place.partition(".")[0]
        root = Path(spec.origin).parents[place.count(".") + _is_package(Path(spec.origin))]
        start = {place: _source(Path(spec.origin))}
        installed = "site-packages" in root.parts or top in sys.stdlib_module_names
        sources = tuple(start.items()) if installed else _with_neighbours(start, root)
        return Snapshot(place, None, sources)

    @property
    def sha256(self) -> str:
        """The checksum of the source, or of all sources if there are several."""
        texts = [source.text for _, source in self.sources]
        if len(texts) > 1:
            texts = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        return hashlib.sha256("".join(texts).encode()).hexdigest()

    @property
    def file(self) -> Path:
        """The module's file. Raises ValueError if it was edited after the snapshot."""
        source = dict(self.sources)[self.module]
        if _text(Path(source.path)) != source.text:
            raise ValueError(f"{source.path} was edited since the command began")
        return Path(source.path)

    def load(self) -> ModuleType:
        """The module, imported from this snapshot unless it has been imported before."""
        if self.module not in sys.modules:
            if self.folder is not None and self.folder not in sys.path:
                sys.path.append(self.folder)
                _ADDED.add(self.folder)
            sys.meta_path.insert(0, _Finder(dict(self.sources)))
            _TEXTS.update({Path(source.path): source.text for _, source in self.sources})
        return importlib.import_module(self.module)


def text_of(path: Path) -> str:
    """The text of a file: from a loaded snapshot that contains it, or else from the disk."""
    return _TEXTS[path] if path in _TEXTS else _text(path)


def is_there(path: Path) -> bool:
    """Whether the file exists, or did when the snapshot was taken."""
    return path in _TEXTS or path.is_file()


class _Finder(MetaPathFinder, Loader):
    """Imports modules from the texts of the snapshot."""

    def __init__(self, sources: Mapping[str, Source]):
        self._sources = sources

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        source = self._sources.get(fullname)
        if source is None:
            return None
        folders = [str(Path(source.path).parent)] if source.is_package else None
        return spec_from_file_location(
            fullname, source.path, loader=self, submodule_search_locations=folders
        )

    def exec_module(self, module: ModuleType) -> None:
        source = self._sources[module.__name__]
        exec(compile(source.text, source.path, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, fullname: str) -> str:
        """The source that tracebacks and `inspect` show."""
        return self._sources[fullname].text


def _with_neighbours(start: Mapping[str, Source], root: Path) -> _Sources:
    """The modules, and all modules under `root` that they import, inside functions too."""
    found = dict(start)
    todo = list(start)
    while todo:
        name = todo.pop()
        for other in _imported(name, found[name]):
            path = _file(other, root)
            if path is not None and other not in found:
                found[other] = _source(path)
                todo.append(other)
    return tuple((name, found[name]) for name in sorted(found))


def _imported(name: str, source: Source) -> Iterator[str]:
    """The modules that a source may import, and all packages that contain them."""
    package = name if source.is_package else name.rpartition(".")[0]
    yield from _packages(package)
    try:
        tree = ast.parse(source.text, source.path)
    except SyntaxError:  # importing it will raise this again
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: 1 - node.level or None]) if node.level else ""
            base = ".".join(filter(None, (base, node.module)))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for full in names:
            yield from _packages(full)


def _packages(name: str) -> Iterator[str]:
    """A module's name and those of the packages that contain it, the outermost first."""
    parts = name.split(".") if name else []
    yield from (".".join(parts[: n + 1]) for n in range(len(parts)))


def _file(name: str, root: Path) -> Path | None:
    """The file of a module under `root`, unless the name means another module."""
    top = name.partition(".")[0]
    if not top or top in OURS or top in sys.stdlib_module_names:
        return None
    base = root.joinpath(*name.split("."))
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file() and not _is_elsewhere(top, root):
            return path
    return None


def _is_elsewhere(top: str, root: Path) -> bool:
    """Whether a folder of Python's path other than `root`, which is searched last, has the name."""
    spec = PathFinder.find_spec(top, [folder for folder in sys.path if folder not in _ADDED])
    return spec is not None and spec.origin is not None and root not in Path(spec.origin).parents


def _source(path: Path) -> Source:
    return Source(str(path), _text(path), _is_package(path))


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def _text(path: Path) -> str:
    """The source, decoded as Python decodes it."""
    return decode_source(path.read_bytes())
