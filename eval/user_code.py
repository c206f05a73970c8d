"""References to objects in a user's source: `path/to/file.py:NAME` or `package.module:NAME`."""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from .cli import in_a_line
from .snapshot import Snapshot


@dataclass(frozen=True)
class Reference:
    """A reference to an object in a source file, in the file's state when the command started."""

    place: str  # a .py file or the name of a module
    name: str  # of an object in the module; dots lead to attributes
    snapshot: Snapshot

    @staticmethod
    def of(text: str, kind: str) -> "Reference":
        """The reference "PLACE:NAME". kind: what the object should be, for messages.

        Raises ValueError, with a message of one line, if it cannot be imported or has no source.
        """
        place, _, name = text.rpartition(":")
        try:
            snapshot = Snapshot.of(place)
            snapshot.load()
        except (Exception, SystemExit) as error:
            raise ValueError(f"cannot import the {kind} {text!r}: {in_a_line(error)}") from error
        return Reference(place, name, snapshot)

    @property
    def sha256(self) -> str:
        return self.snapshot.sha256

    @property
    def file(self) -> Path:
        return Path(dict(self.snapshot.sources)[self.snapshot.module].path)

    @property
    def source(self) -> Path:
        """The source file. Raises ValueError if it was edited since."""
        return self.snapshot.file

    @property
    def value(self) -> Any:
        """The object. Raises AttributeError if it does not exist."""
        return reduce(getattr, self.name.split("."), self.snapshot.load())

    def get(self) -> Any:
        """The object, or None if it does not exist."""
        try:
            return self.value
        except AttributeError:
            return None

    def attribute(self, name: str) -> "Reference":
        """A reference to an attribute of the object."""
        return Reference(self.place, f"{self.name}.{name}", self.snapshot)

    def __call__(self, *arguments: Any) -> Any:
        return self.value(*arguments)

    def __str__(self) -> str:
        return f"{self.place}:{self.name}"
