"""Checks of any class that is to take the place of torch's own optimizers.

They restate what torch's own optimizer tests ask (torch/testing/_internal/common_optimizers.py is
built for), and what these do not ask but training code relies on. A check gets a `Make`, and
fails by raising anything. `python -m benchmarks.conformance` prints the table of
docs/conformance.md.
"""

from benchmarks.conformance import checkpoints as checkpoints
from benchmarks.conformance import steps as steps
from benchmarks.conformance.problem import CHECKS as CHECKS
from benchmarks.conformance.problem import Make as Make
