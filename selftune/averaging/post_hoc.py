"""Post-hoc EMA: averages of any width, synthesized after the run from snapshots of two widths.

Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models, 2024, section 3.
https://arxiv.org/abs/2312.02696
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selftune.averaging.profiles import PowerEMA
from selftune.averaging.weight_average import WeightAverage
from selftune.dtensor import whole
from selftune.ranks import is_first_rank
from selftune.tensor_list import TensorList

# A synthesis whose relative error is larger than this warns.
TOLERANCE = 0.05


class SnapshotStore:
    """A folder of snapshots of `PowerEMA` averages, from which other widths are synthesized.

        narrow = WeightAverage(model, PowerEMA(0.05))
        wide = WeightAverage(model, PowerEMA(0.10))
        ...                                      # some 50 times during the run:
        store.add(narrow), store.add(wide)
        ...                                      # and after it:
        weights = store.synthesize(0.15)

    Snapshots are full float32 weights and written atomically; in a distributed run by rank 0. Use
    a folder for one run only, as all snapshots in it are combined.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()  # a program may change its folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, average: WeightAverage) -> None:
        """Save the present average. Every rank of a distributed run has to call this.

        Snapshots of the same width at later steps are deleted: they remain from before the run was
        resumed from an earlier checkpoint.
        """
        profile = average.profile
        if not isinstance(profile, PowerEMA) or profile.start != 0:
            raise ValueError(f"post-hoc synthesis needs PowerEMA with start=0, got {profile}")
        weights = {name: whole(tensor).cpu() for name, tensor in average.weights().items()}
        if not is_first_rank():
            return
        step = average.steps - average.steps % int(profile.every)
        path = self.folder / f"step{step:010d}-sigma{profile.sigma_rel}.pt"
        unfinished = path.with_suffix(".unfinished")
        snapshot = {"step": step, "sigma_rel": profile.sigma_rel, "weights": weights}
        torch.save(snapshot, unfinished)
        unfinished.replace(path)
        for other in self.folder.glob(f"step*-sigma{profile.sigma_rel}.pt"):
            if int(other.name[len("step") :].split("-")[0]) > average.steps:
                other.unlink()

    def synthesize(self, sigma_rel: float, step: int | None = None) -> dict[str, Tensor]:
        """The weights that `PowerEMA(sigma_rel)` would have had after `step`, by name.

        step: by default the last one with a snapshot. Later snapshots are not used.
        Warns if the snapshots cannot approximate this width well.
        """
        snapshots = [_read(path) for path in sorted(self.folder.glob("*.pt"))]
        if step is not None:
            snapshots = [snapshot for snapshot in snapshots if snapshot["step"] <= step]
        if not snapshots:
            raise ValueError(f"{self.folder} has no snapshot up to step {step}")
        step = step or max(int(snapshot["step"]) for snapshot in snapshots)
        coefficients, error = mixture(
            [(snapshot["step"], snapshot["sigma_rel"]) for snapshot in snapshots],
            (step, sigma_rel),
        )
        if error > TOLERANCE:
            warnings.warn(
                f"the {len(snapshots)} snapshots up to step {step} miss sigma_rel={sigma_rel} by "
                f"{error:.0%} of its profile: take more of them, or of widths closer to it",
                stacklevel=2,
            )
        names = list(snapshots[0]["weights"])
        if any(_shapes(snapshot) != _shapes(snapshots[0]) for snapshot in snapshots):
            raise ValueError(f"{self.folder} has snapshots of different models: take one for each")
        total = TensorList([torch.zeros_like(snapshots[0]["weights"][name]) for name in names])
        for c, snapshot in zip(coefficients, snapshots, strict=True):
            total.add_(TensorList([snapshot["weights"][name] for name in names]), alpha=float(c))
        return dict(zip(names, total, strict=True))


def mixture(
    snapshots: Sequence[tuple[int, float]], target: tuple[int, float]
) -> tuple[np.ndarray, float]:
    """The linear combination of averages that is closest to another, and its relative error.

    snapshots, target: (step, sigma_rel) of power-function averages.
    This is the least-squares fit between their weights as functions of time. The paper leaves the
    sum of the coefficients free; here it is 1, so that parameters which never change are preserved.
    The error is the L2 distance over the L2 norm of the target's function.
    """
    steps = np.array([step for step, _ in snapshots], dtype=float)
    gammas = np.array([PowerEMA(sigma_rel).gamma for _, sigma_rel in snapshots])
    at, gamma = float(target[0]), PowerEMA(target[1]).gamma
    products = _inner(steps[:, None], gammas[:, None], steps, gammas)
    with_target = _inner(steps, gammas, at, gamma)
    own = float(_inner(at, gamma, at, gamma))
    scale = products.diagonal() ** -0.5  # to norm 1, as early snapshots are narrow and high
    gram = scale[:, None] * products * scale
    bordered = np.block([[gram, scale[:, None]], [scale[None], np.zeros((1, 1))]])
    solution = np.linalg.lstsq(bordered, np.append(scale * with_target, 1), rcond=None)[0]
    c = scale * solution[:-1]
    squared = own - 2 * c @ with_target + c @ products @ c
    return c, float(max(0.0, squared) / own) ** 0.5


def _inner(s: Any, g: Any, t: Any, h: Any) -> np.ndarray:
    """The inner product of (g + 1) x^g / s^(g + 1) on [0, s] and the same with t and h."""
    low = np.log(np.minimum(s, t))
    powers = (g + h + 1) * low - (g + 1) * np.log(s) - (h + 1) * np.log(t)
    return (g + 1) * (h + 1) / (g + h + 1) * np.exp(powers)


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _shapes(snapshot: dict[str, Any]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in snapshot["weights"].items()}
