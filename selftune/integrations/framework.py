"""Helpers of the integrations: imports of frameworks, and names of step sizes in their logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from selftune.optim.optimizer import Optimizer
from selftune.step_hooks import innermost_optimizer


@contextmanager
def needed(module: str, package: str | None = None) -> Iterator[None]:
    """Import a framework inside the block: ImportError says what to install if it is missing.

    package: the framework's name on PyPI, if it is not that of the module.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module:  # a dependency of the framework
            raise
        package = package or module
        raise ImportError(
            f"selftune.integrations.{module} needs {package}: pip install {package}"
        ) from error


def ours(optimizer: Any) -> Optimizer | None:
    """The optimizer of selftune inside a framework's wrapper; None for other optimizers."""
    inner = innermost_optimizer(optimizer)
    return inner if isinstance(inner, Optimizer) else None


def step_sizes(optimizers: Sequence[Any]) -> dict[str, float]:
    """Effective step sizes by the names under which they are logged.

    That of the first parameter group is `step_size`, the others are `step_size/1` and so on.
    """
    sizes = [size for each in map(ours, optimizers) if each for size in each.step_size()]
    return {f"step_size/{i}" if i else "step_size": size for i, size in enumerate(sizes)}
