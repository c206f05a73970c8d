"""What the commands share: arguments that are checked, and errors of one line."""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NoReturn, TypeVar

T = TypeVar("T")

# Exit statuses
DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse, less the usage that buries the error."""

    def __init__(self, module: str, description: str):
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}\n")


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
    """An error's kind and the first line of what it says."""
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
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
