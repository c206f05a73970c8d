"""Summary of a search: its target, and whether its workload separates optimizers from noise."""

from collections.abc import Callable
from statistics import median

import numpy as np

from ..overfitting import remark
from ..results import Record, read
from ..workload import Workload
from .protocol import (
    PROTOCOL,
    best_trial,
    log,
    reached,
    refuse_other_workload,
    searched,
    seeds_of_best,
    sizes,
)


def summary(workload: Workload) -> str:
    """The target, its origin, and the spread of metrics compared with the noise of seeds."""
    records = read(log(workload))
    refuse_other_workload(workload, records)
    search, seeds = searched(records), seeds_of_best(workload, records)
    winner = best_trial(workload, records)
    diverged = sum(record["outcome"] == "failed" for record in search)
    seconds = [r["seconds"]["training"] + r["seconds"]["evaluation"] for r in records]
    way = "higher" if workload.metric.higher_is_better else "lower"
    lines = [
        f"{workload.name}: {workload.metric.name}, {way} is better; "
        f"{workload.step_hint} steps of {workload.batch_size}",
        f"  {len(search)} configurations, of which {diverged} failed; {len(seeds)} seeds"
        + (f"; {median(seconds):.0f} s a run" if seconds else ""),
    ]
    if sizes(records) != PROTOCOL:
        lines.append(f"  a search of {sizes(records)}, where the protocol has {PROTOCOL}")
    if winner is not None:
        lines.append(
            f"  best configuration: {winner['rules']['method']} (search {winner['study']}): "
            f"{reached(workload, winner):.5g}"
        )
    done = [record for record in seeds if record["outcome"] == "done"]
    if len(done) > 1:
        lines.append(f"  best validation over seeds: {_range(done, 'best_validation')}")
        if workload.must_hold_target:
            lines.append(f"  last validation over seeds: {_range(done, 'final_validation')}")
        lines.append(f"  test over seeds: {_range(done, 'test')}")
        lines += [f"  {text}" for text in [remark(done)] if text]
        configurations, noise = _finals(search), _finals(seeds)
        lines.append(
            "  spread of the final metric over configurations / over seeds: "
            f"{_ratio(_standard_deviation, configurations, noise)} (standard deviation), "
            f"{_ratio(_interquartile_range, configurations, noise)} (interquartile range)"
        )
    return "\n".join(lines)


def _range(records: list[Record], name: str) -> str:
    values = sorted(record[name] for record in records)
    return f"{values[0]:.5g} to {values[-1]:.5g}, median {median(values):.5g}"


def _finals(records: list[Record]) -> np.ndarray:
    finals = [record["final_validation"] for record in records if record["outcome"] == "done"]
    return np.array([final for final in finals if final is not None])


def _ratio(spread: Callable[[np.ndarray], float], signal: np.ndarray, noise: np.ndarray) -> str:
    return f"{spread(signal) / spread(noise):.3g}" if spread(noise) > 0 else "no noise"


def _standard_deviation(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1))


def _interquartile_range(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)
