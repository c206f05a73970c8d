"""Latest weight averaging: the uniform mean of the last snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field

from selftune.averaging.profiles import Length, Moment, Profile
from selftune.tensor_list import TensorList


@dataclass(frozen=True)
class LAWA(Profile):
    """The mean of the last k snapshots.

    Kaddour, Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight
    Averaging, 2022. https://arxiv.org/abs/2209.14981
    k, every: k snapshots, `every` steps apart. The defaults are those with which the authors of
        When, Where and Why to Average Weights?, 2025, ran AlgoPerf's workloads best.
    Kept: k words in the tensors' own type, and the running mean.
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
        if slot == self.k - 1:  # afresh once per round, so that rounding does not pile up
            for i in range(self.k):
                mean.lerp_(kept[f"snapshot{i}"], 1 / (i + 1))


@dataclass(frozen=True)
class BlockLAWA(Profile):
    """The mean of the last k to 2 k - 1 snapshots, in two words whatever k is.

    Those are the last full block of k and what came since, each counting once. Means by blocks are
    from Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations,
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
