"""Conversion of NumPy's and other numbers to Python's int and float, for JSON and `torch.load`."""

from __future__ import annotations

import operator
from typing import Any


def plain_number(number: Any) -> int | float:
    """A whole number of any type as int, any other number as float."""
    try:
        return operator.index(number)
    except TypeError:
        return float(number)
