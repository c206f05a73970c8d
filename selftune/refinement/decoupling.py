"""Decoupling: removing the effect of the weight norm from gradient norms.

In layers that are followed by a normalization, the gradient is inversely proportional to the
weight norm. With weight decay, the weight norm follows the learning rate with a lag: Defazio, Why
Gradients Rapidly Increase Near the End of Training, 2025. https://arxiv.org/abs/2506.02285
Gradient norms then reflect the schedule of the run that recorded them. Multiplied by the weight
norm, they do not.
"""

from __future__ import annotations

import numpy as np

from selftune.refinement.norm_log import NormLog

MODES = ("auto", "none", "weight_norm", "model")


def choose(log: NormLog, decouple: str) -> str:
    """The mode of decoupling: as asked for, or with "auto" the best that the log allows."""
    if decouple not in MODES:
        raise ValueError(f"decouple is one of {', '.join(MODES)}, got {decouple!r}")
    if decouple == "weight_norm" and "weight" not in log.norms:
        raise ValueError(
            "the log has no weight norms: record them, say which column has them with --column "
            "THEIRS=weight, or pass another decouple="
        )
    can_model = log.lrs is not None and log.weight_decay
    if decouple == "model" and not can_model:
        raise ValueError(
            "to model the weight norm, give lrs= and a positive weight_decay=; say which column "
            "of a log has the first with --column THEIRS=lr"
        )
    if decouple != "auto":
        return decouple
    if log.weight_decay == 0:
        return "none"  # without weight decay the weight norm does not follow the learning rate
    if "weight" in log.norms:
        return "weight_norm"
    return "model" if can_model else "none"


def modelled_weight_norm(log: NormLog, squared_updates: np.ndarray) -> np.ndarray:
    """The weight norm at every record, up to a factor, from learning rates and weight decay.

    For updates that are orthogonal to the weights, the squared norm r follows
    r <- r (1 - 2 weight_decay lr) + lr^2 u^2, where u is the norm of an update at lr 1. It starts
    at its equilibrium for the largest lr; if the initial weights were smaller, the schedule begins
    more slowly than it should.

    squared_updates: u^2 at every record, up to a factor.
    """
    assert log.lrs is not None
    assert log.weight_decay
    rate = 2 * log.weight_decay * log.lrs
    if not (np.isfinite(log.lrs) & (log.lrs >= 0)).all() or not log.lrs.any():
        raise ValueError("lrs must be finite and not negative, and not all zero")
    if rate.max() >= 1:
        raise ValueError(
            f"weight_decay {log.weight_decay} times the largest lr {log.lrs.max()} must be below "
            "1/2: is the decay already multiplied by lr?"
        )
    gain = log.lrs**2 * squared_updates
    peak = np.argmax(log.lrs)
    r = gain[peak] / rate[peak]
    gaps = np.append(np.diff(log.steps), 0)
    kept = (1 - rate) ** gaps  # decay of the squared norm from each record to the next
    squared = np.empty(len(gaps))
    for i in range(len(gaps)):
        squared[i] = r
        if rate[i] > 0:
            r = r * kept[i] + gain[i] / rate[i] * (1 - kept[i])
    return np.sqrt(squared)
