"""Diagnostics of a refined schedule, with warnings if it should not be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from selftune.refinement.series import FAR, TRIM, Series, smooth

BEGINNING = 0.1  # first fraction of the run, left out of correlations: norms change fast there
TAIL = 0.05  # last fraction of the run
PIECES = 10  # parts of the run in which the scatter is measured
STILL = 0.01  # logarithms with a smaller standard deviation count as constant
# If both the scatter and its growth exceed these, the run was nearly unstable. With small batches
# norms scatter as much, but equally in all parts of the run.
SCATTER, GROWTH = 0.15, 3.0
FEW = 100  # fewer records are warned of
GAP = 0.05  # a longer fraction of the run without records is warned of
ASSUMED = {
    "AdamW": "no optimizer is named, AdamW's is assumed (SGD's, norm^-2: --optimizer SGD)",
    "SGD": "no optimizer is named, SGD's is assumed (AdamW's, norm^-1: kind='adam')",
}


@dataclass(frozen=True)
class Diagnostics:
    """Facts about a refined schedule. `str` prints them; `warnings` says what speaks against it.

    Fractions of the run do not include a warm-up that was passed to `refine`.

    kind, power: the weights are the norms, decoupled or not, to the power -`power`.
    decouple: how the effect of the weight norm was removed: "none", "weight_norm" or "model".
    num_records, num_unusable: number of norms in the log, and of those that are not positive and
        finite (<g, u> is negative if momentum leads uphill).
    num_outliers: number of usable norms ten times above or below the running median, after the
        first 2 % of the run. Smoothing removes the effect of a few.
    predicted_gain: the convex bound of linear decay over that of the refined schedule, without
        the first 2 % of the run. Real gains are a few percent at most.
    peak_position: fraction of the run at which the schedule peaks.
    tail_share: the sum of the weights in the last 5 % of the run, as a fraction of the total.
    lr_correlation: correlation of log norms with the log of the recorded learning rate, after the
        first 10 % of the run; None if lr is unknown or constant.
    decoupled_lr_correlation: the same after decoupling.
    explained: the fraction of the variance of log norms that the weight norm explains; negative
        if decoupling adds variance, None if the weight norm hardly changes.
    scatter, scatter_growth: the largest interquartile range of log norms about their smoothed
        values in a tenth of the run, and its ratio to the smallest; None for short logs.
    model_holds: whether the norms behave as decoupling assumes; None if they are not decoupled.
    assumed: the optimizer whose formula was taken, if the log names none and no kind was given.
    notes: assumptions that were made when the log was read.
    """

    kind: str
    power: int
    decouple: str
    num_records: int
    num_unusable: int
    num_outliers: int
    predicted_gain: float
    peak_position: float
    tail_share: float
    lr_correlation: float | None
    decoupled_lr_correlation: float | None
    explained: float | None
    scatter: float | None
    scatter_growth: float | None
    model_holds: bool | None
    warnings: tuple[str, ...]
    assumed: str | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"weights: {self.kind}, norm^-{self.power}, decoupled by {self.decouple}"
            + (f"; {ASSUMED[self.assumed]}" if self.assumed else ""),
            f"records: {self.num_records}, of which {self.num_unusable} unusable, "
            f"{self.num_outliers} outliers",
            f"predicted gain over linear decay: {self.predicted_gain - 1:.1%} of the bound",
            f"peak at {self.peak_position:.0%} of the run, tail share {self.tail_share:.0%}",
        ]
        if self.lr_correlation is not None:
            after = self.decoupled_lr_correlation
            lines.append(
                f"correlation of norms with lr: {self.lr_correlation:.2f}"
                + (f", decoupled {after:.2f}" if after is not None else "")
            )
        if self.explained is not None:
            lines.append(f"variance explained by the weight norm: {self.explained:.0%}")
        if self.model_holds is not None:
            lines.append(f"the model of decoupling holds: {'yes' if self.model_holds else 'NO'}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def diagnose(
    series: Series,
    smoothing: float,
    kind: str,
    power: int,
    decouple: str,
    weights: np.ndarray,
    factors: np.ndarray,
    num_capped: int,
    decayed: bool,
    assumed: str | None,
    notes: tuple[str, ...],
) -> Diagnostics:
    """Diagnose a refinement from its input `series`, and its weights and multipliers.

    num_capped: number of weights that were capped.
    decayed: whether the run had weight decay, or may have had it.
    """
    size = len(weights)
    plain = smooth(series.log_norms, smoothing)
    decoupled = smooth(series.log_norms + series.log_weight_norms, smoothing)
    late = series.places >= BEGINNING
    after = weights[int(TRIM * size) :]
    scatter = Scatter.of(series.log_norms - plain)
    weight_norms = series.log_weight_norms[late]
    explained = None
    if decouple != "none" and weight_norms.std() > STILL:
        left = plain[late] + weight_norms
        explained = float(1 - left.var() / max(plain[late].var(), 1e-12))
    correlations: list[float | None] = [None, None]
    if series.log_lrs is not None:
        known = late & np.isfinite(series.log_lrs)
        lrs = series.log_lrs[known]
        correlations = [correlation(norms[known], lrs) for norms in (plain, decoupled)]
    unstable = scatter is not None and scatter.largest > SCATTER and scatter.growth > GROWTH
    follow_lr = (correlations[0] or 0) < -0.5 and plain[late].std() > 0.05
    echoes = decouple == "none" and decayed and follow_lr
    begins_in_a_spike = bool(factors[late].max(initial=0) < 0.5)
    diagnostics = Diagnostics(
        kind=kind,
        power=power,
        decouple=decouple,
        num_records=series.num_records,
        num_unusable=series.num_unusable,
        num_outliers=series.num_outliers,
        predicted_gain=float(np.sqrt(after.mean() * (1 / after).mean())),
        peak_position=float(series.places[np.argmax(factors)]),
        tail_share=float(weights[size - max(1, round(TAIL * size)) :].sum() / weights.sum()),
        lr_correlation=correlations[0],
        decoupled_lr_correlation=correlations[1] if decouple != "none" else None,
        explained=explained,
        scatter=scatter.largest if scatter else None,
        scatter_growth=scatter.growth if scatter else None,
        model_holds=None
        if decouple == "none"
        else not (unstable or (explained is not None and explained < 0)),
        warnings=(),
        assumed=assumed,
        notes=notes,
    )
    return replace(
        diagnostics,
        warnings=tuple(_objections(diagnostics, series, echoes, begins_in_a_spike, num_capped)),
    )


def _objections(
    d: Diagnostics, series: Series, echoes: bool, begins_in_a_spike: bool, num_capped: int
) -> Iterator[str]:
    if d.num_unusable:
        yield (
            f"{d.num_unusable} of {d.num_records} norms are not positive and finite; "
            "their neighbours stand in for them"
        )
    if d.num_outliers:
        yield (
            f"{d.num_outliers} of {d.num_records} norms are {FAR:.0f} times above or below their "
            "neighbours; smoothing passes over a few, but find out why"
        )
    if series.missing > 0.01:
        yield f"no norms in the first {series.missing:.0%} of the run; the first one stands in"
    if series.gap is not None and series.gap.share > GAP:
        yield (
            f"no norms between the steps {series.gap.after} and {series.gap.before}, "
            f"{series.gap.share:.0%} of the run: a straight line stands in"
        )
    if d.num_records < FEW:
        yield f"only {d.num_records} norms: noise shows in the schedule"
    if num_capped:
        yield f"{num_capped} weights were cut to 100 times their median: norms nearly vanish there"
    if d.tail_share > 0.3 or d.peak_position > 0.6:
        yield (
            "norms fall towards the end, as where the training data are fitted exactly: the "
            "schedule is small and then a spike; do not use it"
        )
    if begins_in_a_spike:
        yield (
            "the first norms are far smaller than the rest, as where layers begin at zero: the "
            "schedule begins in a spike and is small from there; do not use it, but refine after "
            "a warm-up, or a longer one"
        )
    if d.predicted_gain > 2:
        yield "the predicted gain rests on a few extreme norms; do not believe it"
    if echoes:
        yield (
            "norms fall where the learning rate is high, as weight decay makes them: the schedule "
            "echoes the one that recorded it; record weight norms, or give lrs and weight_decay"
        )
    if d.model_holds is False and d.explained is not None and d.explained < 0:
        yield "norms times the weight norm vary more than norms alone: try decouple='none'"
    if d.model_holds is False and d.scatter_growth is not None and d.scatter_growth > GROWTH:
        yield (
            f"norms scatter {d.scatter_growth:.0f} times as much in one tenth of the run as in "
            "another: training was nearly unstable, and then norms do not follow the weight norm"
        )


@dataclass(frozen=True)
class Scatter:
    """The interquartile range of the noise in log norms, compared between tenths of the run."""

    largest: float
    growth: float  # the largest over the smallest

    @staticmethod
    def of(noise: np.ndarray) -> Scatter | None:
        """None if a tenth of the run has too few records."""
        if len(noise) < 10 * PIECES:
            return None
        ranges = [np.subtract(*np.percentile(p, [75, 25])) for p in np.array_split(noise, PIECES)]
        largest = float(max(ranges))
        return Scatter(largest, largest / max(float(min(ranges)), 1e-3))


def correlation(ones: np.ndarray, others: np.ndarray) -> float | None:
    """The Pearson correlation; None if one of the two hardly varies."""
    if len(ones) < 2 or min(ones.std(), others.std()) < STILL:
        return None
    return float(np.corrcoef(ones, others)[0, 1])
