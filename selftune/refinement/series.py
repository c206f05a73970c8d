"""Series: the norms of a log, interpolated to equal distances over the run, and smoothed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from selftune.refinement.decoupling import modelled_weight_norm
from selftune.refinement.norm_log import NormLog

LONGEST = 20_000  # points of a series; longer logs are sampled
EDGE = 0.1  # largest fraction of the run, at its beginning or end, that may lack norms
TRIM = 0.02  # first fraction of the run, whose norms may be a thousand times larger than the rest
# A norm is an outlier if it is FAR times larger or smaller than the running median over this
# fraction of the run.
NEARBY = 0.1
FAR = 10.0


@dataclass(frozen=True)
class Gap:
    """The longest stretch without a usable record."""

    after: int  # the step of the record before it
    before: int  # the step of the record after it
    share: float  # its length as a fraction of the run


@dataclass(frozen=True, eq=False)
class Series:
    """Logarithms at equal distances over the run, interpolated between usable records.

    log_weight_norms: what decoupling adds to the log norms; zeros without decoupling.
    log_lrs: None if unknown; -inf where lr is 0.
    """

    places: np.ndarray  # fractions of the run
    log_norms: np.ndarray
    log_weight_norms: np.ndarray
    log_lrs: np.ndarray | None
    num_records: int
    num_unusable: int
    num_outliers: int  # among the usable norms after the first 2 % of the run
    missing: float  # fraction of the run before the first usable record
    gap: Gap | None

    @staticmethod
    def of(log: NormLog, name: str, decouple: str, sgd: bool) -> Series:
        """The series of the norms with this name.

        sgd: whether the norm of the optimizer's updates is proportional to that of the gradient;
            otherwise it is independent of it, as in Adam.
        """
        # The norms scale with the weight norm to the power -degree. If u is proportional to g,
        # both factors of <g, u> scale.
        degree = 2 if sgd and name == "update" else 1
        norms = log.norms[name]
        positive = np.isfinite(norms) & (norms > 0)
        if decouple == "weight_norm":
            positive &= np.isfinite(log.norms["weight"]) & (log.norms["weight"] > 0)
        records = np.flatnonzero(positive)
        if not len(norms):
            raise ValueError("the log holds no gradient norms: was the recorder attached?")
        if len(records) < 2:
            raise ValueError(
                f"refinement needs at least 2 gradient norms that are positive and finite, "
                f"got {len(records)} of {len(norms)}"
            )
        at = (log.steps - log.begin) / log.total_steps
        if at[records[0]] > EDGE or at[records[-1]] < 1 - EDGE - log.spacing / log.total_steps:
            raise ValueError(
                f"usable gradient norms cover the steps {log.steps[records[0]]} to "
                f"{log.steps[records[-1]]} of {log.total_steps}: refinement needs a whole run"
            )
        size = min(len(norms), LONGEST)
        places = np.arange(size) / size

        def on_grid(values: np.ndarray) -> np.ndarray:
            return np.interp(places, at[records], np.log(values[records]))

        log_weight_norms = np.zeros(size)
        if decouple == "weight_norm":
            log_weight_norms = degree * on_grid(log.norms["weight"])
        elif decouple == "model":
            gradients = np.exp(np.interp(at, at[records], np.log(norms[records])) / degree)
            lengths = gradients if sgd else np.ones(len(norms))
            log_weight_norms = degree * on_grid(modelled_weight_norm(log, lengths**2))
        with np.errstate(divide="ignore"):
            log_lrs = None if log.lrs is None else np.log(np.interp(places, at, log.lrs))
        log_norms = on_grid(norms)
        typical = np.interp(at[records], places, smooth(log_norms, NEARBY))
        far = np.abs(np.log(norms[records]) - typical) > np.log(FAR)
        return Series(
            places=places,
            log_norms=log_norms,
            log_weight_norms=log_weight_norms,
            log_lrs=log_lrs,
            num_records=len(norms),
            num_unusable=len(norms) - len(records),
            num_outliers=int((far & (at[records] >= TRIM)).sum()),
            missing=float(at[records[0]]),
            gap=_longest_gap(log, records),
        )


def _longest_gap(log: NormLog, records: np.ndarray) -> Gap | None:
    """The longest gap; None if all distances between records are about the usual one."""
    steps = log.steps[records]
    distances = np.diff(steps)
    i = int(np.argmax(distances))
    if distances[i] <= 2 * max(log.spacing, float(np.median(distances[max(0, i - 9) : i + 10]))):
        return None
    return Gap(int(steps[i]), int(steps[i + 1]), float(distances[i] / log.total_steps))


def smooth(values: np.ndarray, share: float) -> np.ndarray:
    """The running median over a fraction `share` of the run, rounded to an odd number of values."""
    length = 2 * (int(share * len(values)) // 2) + 1
    mirrored = np.concatenate([values, values[::-1][: 2 * length]])
    return median_filter(mirrored, size=length, mode="nearest")[: len(values)]
