"""The file of finished trials, results.jsonl, with a JSON object in each line.

If a trial was run again, the last of its records counts. Each line is on the disk before the
next one is written, so that a kill at any time damages at most the last line: `Results` cuts it
off, and its trial can run again. Other lines that are not records are reported and ignored, and
stay in the file.
"""

import fcntl
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any

from .schema import problem

Record = dict[str, Any]
Key = tuple[str, str, int]  # workload, method, study

BEGINNING = b'{"workload": "'  # of every record that is written here
MOST_NAMED = 5  # largest number of lines that are reported because they are not records


def key(record: Record) -> Key:
    return record["workload"], record["method"], record["study"]


def finite(number: float | None) -> float | None:
    """The number, or None for nan and infinity, which JSON does not have."""
    return number if number is not None and isfinite(number) else None


def read(path: Path) -> list[Record]:
    """The records in `path`, without a damaged last line; none if there is no such file.

    Reports lines that are not records on stderr. Raises ValueError if no line is a record.
    """
    if not path.exists():
        return []
    found = _parse(path, path.read_bytes())
    found.say()
    return _latest(found.records)


class Results:
    """The file, locked for one writer until it is closed or its process ends.

    Raises ValueError if it is in use or does not contain records, OSError if it cannot
    be written.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed by close)
        try:
            self._lock()
            self._file.seek(0)
            content = self._file.read()
            found = _parse(path, content)
            found.say()
            self.records = _latest(found.records)
            self.bytes_cut = len(content) - found.whole  # the damaged last line
            self._file.truncate(found.whole)
            if found.whole and content[found.whole - 1 : found.whole] != b"\n":
                self._write(b"\n")  # the last line only lacks its end
            _sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, record: Record) -> None:
        self._write(_line(record))
        self.records = _latest([*self.records, record])

    def set_aside(self, is_over: Callable[[Record], bool]) -> Path:
        """Move records to a file beside this one, whose path is returned."""
        aside = self.path.with_suffix(".replaced.jsonl")
        over = [record for record in self.records if is_over(record)]
        kept = [record for record in self.records if not is_over(record)]
        with aside.open("ab") as file:
            file.write(b"".join(map(_line, over)))
            file.flush()
            os.fsync(file.fileno())
        new = self.path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(b"".join(map(_line, kept)))
            file.flush()
            os.fsync(file.fileno())
        before, self._file = self._file, open(new, "a+b", buffering=0)  # noqa: SIM115
        self._lock()  # before it has the name that others open
        new.rename(self.path)
        before.close()
        _sync_folder(self.path.parent)
        self.records = kept
        return aside

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Results":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{self.path} is being written by another run; wait for it or choose another folder"
            ) from None


@dataclass(frozen=True)
class _Found:
    """The content of a results file."""

    path: Path
    records: list[Record]
    wrong: list[tuple[int, str]]  # numbers of lines that are not records, and why
    whole: int  # number of bytes without the damaged last line

    def say(self) -> None:
        for number, reason in self.wrong[:MOST_NAMED]:
            print(f"{self.path}, line {number} is left out: {reason}", file=sys.stderr)
        if len(self.wrong) > MOST_NAMED:
            more = len(self.wrong) - MOST_NAMED
            print(f"{self.path}: {more} more lines are left out", file=sys.stderr)


def _parse(path: Path, content: bytes) -> _Found:
    """Parse a file's content. Raises ValueError if it is not empty and has no record."""
    lines = content.split(b"\n")
    records: list[Record] = []
    wrong: list[tuple[int, str]] = []
    whole = len(content)
    last = max((number for number, line in enumerate(lines) if line), default=0)
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        record: Any = None
        try:
            record = json.loads(line, parse_constant=_refuse)
            reason = problem(record)
        except (ValueError, RecursionError):
            if number == last and _is_cut(line):
                whole -= len(b"\n".join(lines[number:]))
                break
            reason = f"it is no JSON: {line[:40].decode(errors='replace')!a}"
        if reason is None:
            records.append(record)
        else:
            wrong.append((number + 1, reason))
    if wrong and not records:
        number, reason = wrong[0]
        raise ValueError(
            f"{path} holds no records of trials (line {number}: {reason}); move it away or name "
            "another place"
        )
    return _Found(path, records, wrong, whole)


def _is_cut(line: bytes) -> bool:
    """Whether the line is the beginning of a record, or the rest of one after a power cut."""
    beginning = line[: len(BEGINNING)]
    return BEGINNING.startswith(beginning) or not line.strip(b"\0")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _line(record: Record) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _latest(records: list[Record]) -> list[Record]:
    return list({key(record): record for record in records}.values())


def _sync_folder(folder: Path) -> None:
    """Flush the folder to the disk: only then is the name of a new file safe."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
