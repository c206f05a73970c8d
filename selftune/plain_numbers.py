"""Numbers of any type as Python's own: JSON and `torch.load` take no others."""

from __future__ import annotations

import operator
from typing import Any


def exact(number: Any) -> int | float:
    """A whole number of any type as int, any other number as float."""
    try:
        return operator.index(number)
    except TypeError:
        return float(number)
