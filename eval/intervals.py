"""Bootstrap intervals: how much a score would change with other studies and workloads."""

from collections.abc import Mapping

import numpy as np

from .pool import Pool
from .scoring import CUTOFF, time_to_target

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0  # the same records give the same interval

Interval = tuple[float, float]


def score_intervals(pool: Pool) -> dict[str, Interval]:
    """The 95 % bootstrap interval of each entrant's score by steps.

    Workloads and studies are resampled with replacement, the same ones for all entrants, as study k
    has the same initialisation and data order for all.
    """
    rng = np.random.default_rng(SEED)
    credits = _credits(_medians(pool, rng))
    return _intervals(pool, _means(credits, rng))


def oracle_intervals(pool: Pool, oracle: Mapping[str, float]) -> dict[str, Interval]:
    """The same interval of each entrant's ratio to an oracle's steps on at least one workload."""
    rng = np.random.default_rng(SEED)
    medians = _medians(pool, rng)[:, :, [pool.workloads.index(workload) for workload in oracle]]
    budgets = np.array([pool.most_steps(workload) for workload in oracle])
    logs = np.log(np.minimum(medians, budgets) / np.array(list(oracle.values())))
    return _intervals(pool, np.exp(_means(logs, rng)))


def _medians(pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """Median steps over resampled studies: (entrants, samples, workloads)."""
    num_workloads = len(pool.workloads)
    most = max(entrant.num_studies for entrant in pool.entrants)
    chance = rng.random((RESAMPLES, num_workloads, most))
    medians = np.empty((len(pool.entrants), RESAMPLES, num_workloads))
    for row, entrant in enumerate(pool.entrants):
        times = np.full((num_workloads, entrant.num_studies), np.inf)
        for column, trials in enumerate(entrant.trials.values()):
            for trial in trials:
                times[column, trial["study"]] = time_to_target(trial, "steps")
        drawn = (chance[:, :, : entrant.num_studies] * entrant.num_studies).astype(int)
        columns = np.arange(num_workloads)[None, :, None]
        medians[row] = np.median(times[columns, drawn], axis=2)
    return medians


def _means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean over resampled workloads, the same for all entrants: (entrants, samples)."""
    samples, num_workloads = values.shape[1:]
    workloads = rng.integers(num_workloads, size=(samples, num_workloads))
    return np.take_along_axis(values, workloads[None], axis=2).mean(axis=2)


def _intervals(pool: Pool, numbers: np.ndarray) -> dict[str, Interval]:
    edges = np.quantile(numbers, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return {
        entrant.name: (float(low), float(high))
        for entrant, low, high in zip(pool.entrants, *edges, strict=True)
    }


def _credits(medians: np.ndarray) -> np.ndarray:
    """Each entrant's credit for a workload, as in `scoring.credit`."""
    best = medians.min(axis=0)
    solved = np.isfinite(medians)
    ratios = np.full(medians.shape, CUTOFF)
    np.divide(medians, best, out=ratios, where=solved)
    return np.clip((CUTOFF - ratios) / (CUTOFF - 1), 0, None)
