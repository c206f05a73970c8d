"""Warnings that point to the user's line."""

from __future__ import annotations

import inspect
import warnings


def remark(message: str) -> None:
    """Warn at the line outside torch and selftune that led here.

    Schedulers wrap `step`, and `settle` is called from many places: the depth varies.
    """
    frame, depth = inspect.currentframe(), 1
    while frame and frame.f_back and _is_between(frame.f_back.f_globals.get("__name__", "")):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, stacklevel=depth + 1)


def _is_between(module: str) -> bool:
    # contextlib: `evaluation_weights`; copy: `__getstate__`.
    return module.partition(".")[0] in ("torch", "selftune", "contextlib", "copy")
