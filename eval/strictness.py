"""Times to other targets than a trial ran for, read from the curve that its record keeps."""

from math import inf

from .scoring import Record


def first_reached(record: Record, target: float, settled: int = 0) -> float:
    """The step at which a record's curve first reached a target, infinite if it never did.

    settled: where a workload is judged at its end, the step until which no later evaluation may
    fall behind the target.
    """
    higher = record["rules"]["higher_is_better"]
    start = None
    for step, _, value in record["curve"]:
        if value is None or (value < target if higher else value > target):
            start = None
            continue
        start = step if start is None else start
        if step >= settled:
            break
    return inf if start is None else float(start)
