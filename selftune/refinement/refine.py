"""refine: the schedule that minimizes the convex bound for the gradient norms of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Literal

import numpy as np

from selftune.plain_numbers import plain_number
from selftune.refinement.decoupling import choose
from selftune.refinement.diagnostics import Diagnostics, diagnose
from selftune.refinement.norm_log import NormLog
from selftune.refinement.series import Series, smooth
from selftune.schedules.form import (
    Table,
    Warmup,
    require_length,
    require_room,
    steps_of,
)
from selftune.schedules.schedule import Schedule

# kind -> (columns of a log in order of preference, power of their inverse)
KINDS = {"sgd": (("l2",), 2), "adam": (("l1", "l2"), 1), "update": (("update",), 1)}

# Optimizers with such a name have updates proportional to the gradient or its moving average.
SGD_LIKE = ("SGD", "DoG", "DoWG")

LARGEST_WEIGHT = 100.0  # weights are capped at so many times their median


@dataclass(frozen=True, slots=True)
class Refined(Schedule):
    """A refined schedule, with its diagnostics and the data that it was computed from.

    places: the fractions of the run to which the arrays below belong.
    norms, smoothed: the decoupled gradient norms, before and after smoothing.
    weights: w of the theorem, the largest being 1. For fixed gradients, the last iterate under the
        schedule (after its warm-up) equals the average with weights w of the iterates that take
        steps of sizes w.
    """

    diagnostics: Diagnostics = field(compare=False, repr=False)
    places: np.ndarray = field(compare=False, repr=False)
    norms: np.ndarray = field(compare=False, repr=False)
    smoothed: np.ndarray = field(compare=False, repr=False)
    weights: np.ndarray = field(compare=False, repr=False)


def refine(
    log: NormLog | Sequence[float] | np.ndarray,
    total_steps: int | None = None,
    kind: Literal["auto", "sgd", "adam", "update"] = "auto",
    smoothing: float = 0.1,
    decouple: Literal["auto", "none", "weight_norm", "model"] = "auto",
    warmup: int | float = 0,
    *,
    steps: Sequence[int] | np.ndarray | None = None,
    lrs: Sequence[float] | np.ndarray | None = None,
    weight_decay: float | None = None,
) -> Refined:
    """The schedule that minimizes the convex bound for these gradient norms.

    Defazio et al., Optimal Linear Decay Learning Rate Schedules and Further Refinements, 2023.
    https://arxiv.org/abs/2310.07831

    With weights w_t = |g_t|^-2, the multiplier of step t is w_t times the sum of the weights
    after t, divided by the largest such product. The last iterate of a run of T steps, at which no
    gradient is taken, counts as one more weight equal to the last. So constant norms give linear
    decay, and no step has the multiplier 0.

    The norms are smoothed by a running median. At the left edge the first norm is repeated, so
    that norms that fall at the beginning give a warm-up; at the right edge they are mirrored.

    log: from `GradientNorms` or `NormLog.load`; or plain l2 norms, one for each step.
    total_steps: of the schedule; by default those of the log.
    kind: the weights. "sgd": |g|_2^-2. "adam": |g|_1^-1, or |g|_2^-1 if only that is known.
        "update": <g, u>^-1, for any optimizer. "auto": "update" if it was recorded; "sgd" for plain
        norms and for optimizers whose name contains SGD, DoG or DoWG; else "adam". The diagnostics
        say what was assumed.
    smoothing: length of the running median, as a fraction of the run in [0, 0.5].
    decouple: what the norms are multiplied by, see decoupling.py. "weight_norm": the recorded
        weight norm. "model": a weight norm modelled from lrs and weight_decay. "none": nothing.
        "auto": the first of these that the log allows, but "none" without weight decay. <g, u> is
        multiplied by the squared weight norm if u is proportional to g: if the optimizer is named
        as above, or if <g, u> is |g|_2^2.
    warmup: length of a linear warm-up, in steps (int) or as a fraction of the run (float). Norms
        recorded within it are left out. Use it if the first gradients are small, for instance as
        layers are initialized at zero: the schedule would begin with a spike.
    steps, lrs: of each norm, if the log does not have them.
    weight_decay: of the run, if the log does not have it.
    Look at `.diagnostics` before you use the schedule. Raises ValueError for a log with too few
    norms, and for options that do not fit it.
    """
    if not 0 <= smoothing <= 0.5:
        raise ValueError(f"smoothing is a fraction of the run in [0, 0.5], got {smoothing}")
    unnamed = "AdamW" if isinstance(log, NormLog) else "SGD"
    log = _as_log(log, steps, lrs, weight_decay)
    warmup = plain_number(warmup)
    require_length(warmup, "warmup")
    whole, warmup_steps = log.total_steps, steps_of(warmup, log.total_steps)
    if len(log.steps) and warmup_steps:
        require_room(warmup_steps, "warmup", whole - 1)
        log = log.after(warmup_steps)
    by_name = kind == "auto" and "update" not in log.norms
    assumed = unnamed if by_name and log.optimizer is None else None
    chosen, name = _kind(replace(log, optimizer=assumed) if assumed else log, kind)
    mode = choose(log, decouple)
    sgd = chosen == "sgd" or (chosen == "update" and _follows_gradient(log))
    series = Series.of(log, name, mode, sgd)
    power = KINDS[chosen][1]

    smoothed = smooth(series.log_norms + series.log_weight_norms, smoothing)
    weights = np.exp(-power * (smoothed - smoothed.min()))
    cap = LARGEST_WEIGHT * np.median(weights)
    num_capped = int((weights > cap).sum())
    weights = np.minimum(weights, cap) / min(cap, 1.0)
    later = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0) + weights[-1]
    factors = weights * later
    factors /= factors.max()

    form = Table(tuple(factors.tolist()), end=0.0)
    return Refined(
        form=Warmup(form, warmup, 0.0) if warmup else form,
        total_steps=whole if total_steps is None else total_steps,
        diagnostics=diagnose(
            series,
            smoothing,
            chosen,
            power,
            mode,
            weights,
            factors,
            num_capped,
            decayed=log.weight_decay != 0,
            assumed=assumed,
            notes=log.notes,
        ),
        places=(warmup_steps + log.total_steps * series.places) / whole,
        norms=np.exp(series.log_norms + series.log_weight_norms),
        smoothed=np.exp(smoothed),
        weights=weights,
    )


def _as_log(
    log: NormLog | Sequence[float] | np.ndarray,
    steps: Sequence[int] | np.ndarray | None,
    lrs: Sequence[float] | np.ndarray | None,
    weight_decay: float | None,
) -> NormLog:
    given_lrs = None if lrs is None else np.asarray(lrs, dtype=np.float64)
    if isinstance(log, NormLog):
        if steps is not None:
            raise ValueError("steps= belongs to plain norms; this log has its own")
        known = {"lrs": given_lrs, "weight_decay": weight_decay}
        return replace(log, **{name: v for name, v in known.items() if v is not None})
    _require_norms(log)
    norms = np.asarray(log, dtype=np.float64)
    if norms.ndim != 1:
        raise ValueError(f"norms must be a list of numbers, got an array of shape {norms.shape}")
    return NormLog(
        steps=np.arange(len(norms)) if steps is None else np.asarray(steps, dtype=np.int64),
        norms={"l2": norms},
        lrs=given_lrs,
        weight_decay=weight_decay,
    )


def _require_norms(log: Any) -> None:
    """Raise ValueError for the path of a log, and for the recorder that has one."""
    if isinstance(log, str | PathLike):
        path = str(log)  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"refine() takes a log, got the path {path!r}: write NormLog.load(path)")
    if isinstance(getattr(log, "log", None), NormLog):
        name = type(log).__name__
        raise ValueError(f"refine() takes a log, got the recorder {name}: write recorder.log")


def _kind(log: NormLog, kind: str) -> tuple[str, str]:
    """The kind of weights, and the name of the norms that they are computed from."""
    if kind == "auto":
        kind = "sgd" if _is_sgd_like(log) else "adam"
        kind = "update" if "update" in log.norms else kind
    if kind not in KINDS:
        raise ValueError(f"kind is one of auto, {', '.join(KINDS)}, got {kind!r}")
    names = [name for name in KINDS[kind][0] if name in log.norms]
    if not names:
        raise ValueError(
            f"kind={kind!r} needs {KINDS[kind][0][0]} norms; the log has {', '.join(log.norms)}: "
            f"if another column has them, say so with --column THEIRS={KINDS[kind][0][0]}"
        )
    return kind, names[0]


def _is_sgd_like(log: NormLog) -> bool:
    name = (log.optimizer or "").casefold()
    return any(part.casefold() in name for part in SGD_LIKE)


def _follows_gradient(log: NormLog) -> bool:
    """Whether the update u is proportional to the gradient g; otherwise its size is independent."""
    if _is_sgd_like(log):
        return True
    if "l2" not in log.norms:
        return False
    # Optimizers of other names may step as SGD does: then <g, u> is |g|^2 up to rounding.
    with np.errstate(over="ignore"):
        same = np.isclose(log.norms["update"], log.norms["l2"] ** 2, rtol=0.05, atol=0)
    return bool(same.sum() > 0.9 * len(same))
