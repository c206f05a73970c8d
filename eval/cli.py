"""Shared parts of the commands: checked arguments, one-line errors, exit statuses."""

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import floor, inf
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE)
# Exit statuses
DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are not preceded by the usage."""

    def __init__(self, module: str, description: str):
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}\n")

    def refuse(self, error: Exception) -> NoReturn:
        """Exit as for a wrong argument; re-raise the error of a full disk or a closed pipe."""
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise error
        self.error(str(error))


def chosen(names: str, known: Mapping[str, T], kind: str) -> list[T]:
    """The values of "a,b" or of "all". Raises ValueError for an unknown name."""
    return [one(name, known, kind, ", all") for name in listed(names, known)]


def listed(names: str, known: Iterable[str]) -> list[str]:
    """The names in "a,b" or "all", each once."""
    return list(known) if names == "all" else list(dict.fromkeys(names.split(",")))


def one(name: str, known: Mapping[str, T], kind: str, besides: str = "") -> T:
    """The value of a name. Raises ValueError, with the nearest name, for an unknown one."""
    if name in known:
        return known[name]
    nearest = get_close_matches(name, known, n=1, cutoff=0.4)
    meant = f"did you mean {nearest[0]}? " if nearest else ""
    raise ValueError(f"unknown {kind} {name!r}; {meant}accepted: {', '.join(known)}{besides}")


def refuse_namesakes(names: Sequence[str], kind: str, remedy: str) -> None:
    """Raise ValueError if a name occurs twice; remedy: what to rename."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {kind} are called {name!r}; rename {remedy}")


def in_a_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    message = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {message}".removesuffix(": ")


def count(text: str) -> int:
    """An argument that is a whole number from 1."""
    return _number(text, int, lambda value: value >= 1, "a whole number, at least 1")


def multiple(text: str) -> float:
    """An argument that is a number above 0."""
    return _number(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def fraction(text: str) -> float:
    """An argument that is a number from 0, below 1."""
    return _number(text, float, lambda value: 0 <= value < 1, "a number from 0, below 1")


def natural(text: str) -> int:
    """An argument that is a whole number from 0."""
    return _number(text, int, lambda value: value >= 0, "a whole number, at least 0")


def _number(text, number, accepted, description):
    try:
        value = number(text)
    except ValueError:
        value = None
    if value is None or not accepted(value):
        raise argparse.ArgumentTypeError(f"must be {description}, got {text!r}")
    return value


def cores() -> int:
    """The number of cores that this process may use, by its affinity and its container's quota."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, floor(min(here, quota())))


def quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """The CPU quota of Linux's control groups, in cores; infinite without a limit."""
    least = inf
    for line in _lines(proc):
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            places, limit = [root / "unified", root], _limit_v2
        elif "cpu" in controllers.split(","):
            places, limit = [root / controllers, root / "cpu"], _limit_v1
        else:
            continue
        for place in places:
            # A container may see its own group as the root, or at its path on the host.
            folders = [place / group.lstrip("/"), *(place / group.lstrip("/")).parents]
            for folder in folders:
                least = min(least, limit(folder))
                if folder == place:
                    break
    return least


def _limit_v2(folder: Path) -> float:
    found = " ".join(_lines(folder / "cpu.max")).split()
    return _ratio(*found) if len(found) == 2 else inf


def _limit_v1(folder: Path) -> float:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    found = [" ".join(_lines(folder / name)) for name in names]
    return _ratio(*found)


def _ratio(granted: str, period: str) -> float:
    try:
        share = int(granted) / int(period)
    except (ValueError, ZeroDivisionError):  # "max" is no limit
        return inf
    return share if share > 0 else inf


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its status.

    A closed pipe, a full disk or a terminal that lacks characters gives no traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        _say("the reader of the output is gone; all files were written")
        status = SOME_FAILED
    except OSError as error:
        _silence()
        _say(in_a_line(error))
        status = SOME_FAILED
    sys.exit(status)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"{Path(sys.argv[0]).stem}: {text}", file=sys.stderr)


def _silence() -> None:
    """Redirect stdout to /dev/null, as flushing it at exit would fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
