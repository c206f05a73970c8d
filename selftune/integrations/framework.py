"""Shared by the integrations: asking for a framework, and naming step sizes in its logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from selftune.optim.optimizer import Optimizer
from selftune.step_hooks import innermost_optimizer


@contextmanager
def needed(module: str, package: str | None = None) -> Iterator[None]:
    """Inside, the module is imported; ImportError says what to install if it is missing.

    package: what it is called where it is installed from, if not as it is imported.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module:  # what the framework itself lacks
            raise
        package = package or module
        raise ImportError(
            f"selftune.integrations.{module} needs {package}: pip install {package}"
        ) from error


def ours(optimizer: Any) -> Optimizer | None:
    """The optimizer of selftune inside what a framework has wrapped around it; None for others."""
    inner = innermost_optimizer(optimizer)
    return inner if isinstance(inner, Optimizer) else None


def step_sizes(optimizers: Sequence[Any]) -> dict[str, float]:
    """Effective step sizes by the names under which they are logged.

    The first group's is `step_size`, the others' are `step_size/1` and so on.
    """
    sizes = [size for each in map(ours, optimizers) if each for size in each.step_size()]
    return {f"step_size/{i}" if i else "step_size": size for i, size in enumerate(sizes)}
