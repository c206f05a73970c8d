"""Warnings that point to the line of the user's code that led to them."""

from __future__ import annotations

import inspect
import warnings
from types import FrameType


def remark(message: str) -> None:
    """Warn with the location of the innermost caller outside torch and selftune.

    A fixed stacklevel would not do: schedulers wrap `step`, and `settle` has many callers.
    """
    _, calls = _user(inspect.currentframe())
    warnings.warn(message, stacklevel=calls + 1)


def user_line() -> tuple[str, int]:
    """The file and the line number that `remark` would point to."""
    frame, _ = _user(inspect.currentframe())
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("sys", 1)


def _user(frame: FrameType | None) -> tuple[FrameType | None, int]:
    """The innermost calling frame outside torch and selftune, and how many calls away it is."""
    calls = 0
    while frame and (calls == 0 or _is_between(frame.f_globals.get("__name__", ""))):
        frame, calls = frame.f_back, calls + 1
    return frame, calls


def _is_between(module: str) -> bool:
    # contextlib calls `evaluation_weights`, and copy calls `__getstate__`.
    return module.partition(".")[0] in ("torch", "selftune", "contextlib", "copy")
