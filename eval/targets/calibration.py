"""The calibrated baseline: the configuration that does best over all workloads."""

from collections.abc import Iterable

import numpy as np
from scipy.stats import rankdata

from ..results import Record, read
from ..workload import Workload
from .protocol import PROTOCOL, log, reached, searched
from .search import Configuration


def calibrated(workloads: Iterable[Workload]) -> tuple[Configuration, float]:
    """The searched configuration with the lowest mean rank over the workloads, and that rank.

    1 is the best of a workload's search; runs that failed share its last ranks.
    """
    searches = {w: searched(read(log(w)))[: PROTOCOL.configurations] for w in workloads}
    mean_rank = np.mean([_ranks(*search) for search in searches.items()], axis=0)
    best = int(mean_rank.argmin())
    any_search = next(iter(searches.values()))
    return Configuration(**any_search[best]["configuration"]), float(mean_rank[best])


def _ranks(workload: Workload, search: list[Record]) -> np.ndarray:
    sign = -1 if workload.metric.higher_is_better else 1
    return rankdata([sign * reached(workload, record) for record in search])
