"""LAWA, latest weight averaging: the uniform mean of the last snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field

from selftune.averaging.profiles import Length, Moment, Profile
from selftune.tensor_list import TensorList


@dataclass(frozen=True)
class LAWA(Profile):
    """The mean of the last k snapshots.

    Kaddour, Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight
    Averaging, 2022. https://arxiv.org/abs/2209.14981
    k, every: the number of snapshots, and the steps between two (int: steps; float: a fraction of
        the run). The defaults are those that did best on AlgoPerf's workloads in Ajroldi et al.,
        When, Where and Why to Average Weights?, 2025. https://arxiv.org/abs/2502.06761
    Memory: k words per parameter in the parameters' own dtype, and 1 word for the mean.
    """

    k: int = 10
    every: Length = field(default=0.002, kw_only=True)

    def check(self) -> None:
        _check_k(self.k, "LAWA")

    def snapshots(self) -> tuple[str, ...]:
        return tuple(f"snapshot{i}" for i in range(self.k))

    def fold(self, kept: dict[str, TensorList], weights: TensorList, at: Moment) -> None:
        mean, slot = kept["mean"], at.folds % self.k
        oldest = kept[f"snapshot{slot}"]
        if at.folds < self.k:
            mean.lerp_(weights, 1 / (at.folds + 1))
        else:
            mean.add_(weights, alpha=1 / self.k).add_(oldest, alpha=-1 / self.k)
        oldest.copy_(weights)
        if slot == self.k - 1:  # once per round, so that rounding errors do not accumulate
            for i in range(self.k):
                mean.lerp_(kept[f"snapshot{i}"], 1 / (i + 1))


@dataclass(frozen=True)
class BlockLAWA(Profile):
    """The mean of the last k to 2 k - 1 snapshots, in 2 words per parameter for any k.

    These are the last full block of k snapshots and those since. Block means are from Hägele et
    al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations,
    2024. https://arxiv.org/abs/2405.18392
    """

    k: int = 10
    every: Length = field(default=0.002, kw_only=True)

    def check(self) -> None:
        _check_k(self.k, "BlockLAWA")

    def means(self) -> tuple[str, ...]:
        return ("mean", "block")

    def fold(self, kept: dict[str, TensorList], weights: TensorList, at: Moment) -> None:
        mean, block = kept["mean"], kept["block"]
        in_block = at.folds % self.k + 1
        before = self.k if at.folds >= self.k else 0
        mean.lerp_(weights, 1 / (before + in_block))
        block.lerp_(weights, 1 / in_block)
        if in_block == self.k:
            mean.copy_(block)


def _check_k(k: int, profile: str) -> None:
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k of {profile} must be an int of snapshots, at least 1, got {k}")
