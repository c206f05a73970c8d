"""The folder of an ablation: outcomes as JSON lines, and recorded norms."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from selftune.ablation.names import in_file_name, shown
from selftune.refinement.norm_log import NormLog


@dataclass(frozen=True)
class Outcome:
    """The result of one run: the metric at its last weights and at each average; it may be nan."""

    schedule: str
    seed: int
    metrics: dict[str, float]
    seconds: float

    def __str__(self) -> str:
        metrics = ", ".join(f"{shown(name)} {v:.5g}" for name, v in self.metrics.items())
        return f"{shown(self.schedule)}, seed {self.seed}: {metrics} in {self.seconds:.1f} s"


@dataclass
class AblationFile:
    """The outcomes and norms of an ablation, kept in a folder if there is one.

    definition: name of a schedule -> what has to be equal for its outcomes to be comparable; None
        for an unknown schedule, whose outcomes are ignored.
    Raises ValueError for outcomes with another definition, and while another call writes there.
    """

    folder: Path | None
    definition: Callable[[str], dict[str, Any] | None]
    outcomes: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    _norms: dict[tuple[str, int], NormLog] = field(default_factory=dict)
    _file: TextIO | None = None

    def __enter__(self) -> AblationFile:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / "outcomes.jsonl"
            self._file = path.open("a", encoding="utf-8")
            try:
                _lock(self._file, path)
                self._read(path)
            except BaseException:
                self._file.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, outcome: Outcome) -> None:
        self.outcomes[outcome.schedule, outcome.seed] = outcome
        if self._file is not None:
            # JSON has neither nan nor infinity.
            metrics = {n: v if math.isfinite(v) else None for n, v in outcome.metrics.items()}
            line = {
                "schedule": outcome.schedule,
                "seed": outcome.seed,
                "metrics": metrics,
                "seconds": outcome.seconds,
                "definition": self.definition(outcome.schedule),
            }
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def keep_norms(self, schedule: str, seed: int, log: NormLog) -> None:
        self._norms[schedule, seed] = log
        if self.folder is not None:
            path = _norms_path(self.folder, schedule, seed)
            part = path.with_name(f"part-{path.name}")
            log.save(part)
            part.replace(path)

    def has_norms(self, schedule: str, seed: int) -> bool:
        if self.folder is None:
            return (schedule, seed) in self._norms
        return _norms_path(self.folder, schedule, seed).exists()

    def norms(self, schedule: str, seed: int) -> NormLog:
        """The norms that the run of this schedule and seed recorded."""
        if (schedule, seed) not in self._norms:
            assert self.folder is not None, "norms are recorded before they are asked for"
            path = _norms_path(self.folder, schedule, seed)
            self._norms[schedule, seed] = NormLog.load(path)
        return self._norms[schedule, seed]

    def _read(self, path: Path) -> None:
        """Read the outcomes; an incomplete last line is cut off."""
        assert self._file is not None
        *lines, last = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not self._take(line, path):
                raise ValueError(f"{path}, line {number} is not an outcome; remove it")
        if last and self._take(last, path):
            self._file.write("\n")  # only the end of the line is missing
            self._file.flush()
        else:
            self._file.truncate(sum(len(line) + 1 for line in lines))

    def _take(self, line: bytes, path: Path) -> bool:
        """Keep a line's outcome, if its schedule is known. Returns whether it is an outcome."""
        try:
            data = json.loads(line)
            metrics = {n: math.nan if v is None else float(v) for n, v in data["metrics"].items()}
            outcome = Outcome(
                str(data["schedule"]), int(data["seed"]), metrics, float(data["seconds"])
            )
            before = data["definition"]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return False
        now = json.loads(json.dumps(self.definition(outcome.schedule)))
        if now is not None and before != now:
            raise ValueError(
                f"{path} holds outcomes of {outcome.schedule!r} with other options: "
                f"{_first_difference(before, now)}; choose another out="
            )
        if now is not None:
            # A later line replaces an earlier one: the run was repeated to record its norms.
            self.outcomes[outcome.schedule, outcome.seed] = outcome
        return True


def _norms_path(folder: Path, schedule: str, seed: int) -> Path:
    return folder / f"norms-{in_file_name(schedule)}-{seed}.csv.gz"


def _lock(file: TextIO, path: Path) -> None:
    """Lock the file for one writer, until it closes the file or its process ends."""
    if sys.platform == "win32":  # has no fcntl
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{path} is being written by another ablation; wait for it or choose another out="
        ) from None


def _first_difference(before: Any, now: dict[str, Any]) -> str:
    before = before if isinstance(before, dict) else {}
    name = next(name for name in now if before.get(name) != now[name])
    return f"{name} was {_short(before.get(name))}, is {_short(now[name])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
