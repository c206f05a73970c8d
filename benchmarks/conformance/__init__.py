"""Checks of any class that replaces one of torch's own optimizers.

They cover what torch's own optimizer tests require (torch/testing/_internal/common_optimizers.py
is made for these), and what they do not require but training code relies on. A check gets a `Make`
and fails by raising any exception. `python -m benchmarks.conformance` prints the table of
docs/conformance.md.
"""

from benchmarks.conformance import checkpoints as checkpoints
from benchmarks.conformance import steps as steps
from benchmarks.conformance.problem import CHECKS as CHECKS
from benchmarks.conformance.problem import Make as Make
