"""Recorded trials of the built-in methods: the pool a run is scored in.

results.jsonl holds what `python -m eval.self_tuning --workload all --method all` wrote.
"""

from pathlib import Path

from .. import results
from ..results import Record

RESULTS = Path(__file__).parent / "results.jsonl"


def read(path: Path = RESULTS) -> list[Record]:
    """The recorded trials; none until they have been recorded."""
    return results.read(path)
