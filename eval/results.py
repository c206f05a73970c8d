"""The file of finished trials: one JSON object a line, only ever appended to.

Of several records of a trial, which ran again to record what it had not before, the last counts.
A line is on the disk before the next one is begun, so a kill at any byte costs at most the line
being written: `Results` cuts such an end off, and its trial can run again.
"""

import fcntl
import json
import os
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any

Record = dict[str, Any]
Key = tuple[str, str, int]  # workload, method, study


def key(record: Record) -> Key:
    return record["workload"], record["method"], record["study"]


def finite(number: float | None) -> float | None:
    """The number, or None for what JSON does not have: nan and infinity."""
    return number if number is not None and isfinite(number) else None


def read(path: Path) -> list[Record]:
    """The records in `path`, less a damaged last line; none if there is no such file."""
    return _parse(path, path.read_bytes())[0] if path.exists() else []


class Results:
    """The file, held by one writer until it is closed or its process is gone.

    Raises ValueError when it is in use or a line before the last is damaged, OSError when it
    cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed by close)
        try:
            self._lock()
            self._file.seek(0)
            content = self._file.read()
            self.records, whole = _parse(path, content)
            self.bytes_cut = len(content) - whole  # the damaged last line
            self._file.truncate(whole)
            _sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, record: Record) -> None:
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())
        self.records = _latest([*self.records, record])

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

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{self.path} is being written by another run; wait for it or choose another folder"
            ) from None


def _parse(path: Path, content: bytes) -> tuple[list[Record], int]:
    """The records, and how many bytes of `content` they are: all but a damaged last line."""
    *lines, tail = content.split(b"\n")  # a line is whole only with its end
    records: list[Record] = []
    whole = 0
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            key(record)
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not tail:
                break
            raise ValueError(
                f"{path}, line {number} is not a record: {line[:40].decode(errors='replace')!r}; "
                "correct or remove that line"
            ) from None
        records.append(record)
        whole += len(line) + 1
    return _latest(records), whole


def _latest(records: list[Record]) -> list[Record]:
    return list({key(record): record for record in records}.values())


def _sync_folder(folder: Path) -> None:
    """A new file's name is safe only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
