"""Detection of overfitting: runs that were best long before their end and ended much worse."""

from collections.abc import Iterable

from .scoring import Record

EARLY = 0.5  # the best evaluation lies in this first fraction of the run
MUCH = 0.1  # loss of this fraction of the gain since the first evaluation; less may be noise


def overfitted(record: Record) -> bool:
    """Whether the run's metric was best early in the run and much worse at its end.

    False for a run that reached its target, because it was stopped there.
    """
    values = [(step, metric) for step, _, metric in record["curve"] if metric is not None]
    if len(values) < 2 or record["outcome"] in ("hit", "failed"):
        return False
    sign = 1 if record["rules"]["higher_is_better"] else -1
    step, best = max(values, key=lambda value: sign * value[1])
    gain, loss = abs(best - values[0][1]), abs(best - values[-1][1])
    return step <= EARLY * values[-1][0] and loss > MUCH * gain


def lost_again(record: Record) -> bool:
    """Whether a run reached its target for a while, on a workload that counts only the end."""
    best, rules = record["best_validation"], record["rules"]
    sign = 1 if rules["higher_is_better"] else -1
    return record["outcome"] == "miss" and best is not None and sign * (best - rules["target"]) >= 0


def remark(records: Iterable[Record]) -> str | None:
    """A sentence about the runs that went on to their end, if one of them overfitted."""
    whole = [record for record in records if record["outcome"] not in ("hit", "failed")]
    number = sum(map(overfitted, whole))
    if not number:
        return None
    return (
        f"{number} of {len(whole)} runs that went on to their end were best in their first half "
        f"and then lost more than {MUCH:.0%} of their gain: the model overfits"
    )
