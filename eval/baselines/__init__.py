"""Recorded trials of the built-in methods: the pool in which a run is scored.

results.jsonl holds what `python -m eval.self_tuning --workload all --method all` wrote, and
seed_1.jsonl the same with --seed 1; seed_1_others.jsonl has muon_torch and
benchmarks/shrunk_distance.py:shrunk beside them. wide_seed_9.jsonl has four methods on the wide
suite, wide_seed_9_others.jsonl thirteen more, and wide_seed_9_study_0.jsonl three in one study.
published_methods.jsonl has sixteen published methods on the pocket suite, some in three studies.
"""

from pathlib import Path

from .. import results
from ..results import Record

RESULTS = Path(__file__).parent / "results.jsonl"


def read(path: Path = RESULTS) -> list[Record]:
    """The recorded trials; none until they have been recorded."""
    return results.read(path)
