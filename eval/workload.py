"""A workload: data, model, loss and metric; nothing about optimizers."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from torch import Generator, Tensor, nn

from .user_code import Reference

Arrays = Mapping[str, Any]  # one split: tensors (and plain values) by name
Batch = tuple[Tensor, ...]
Dataset = str | PathLike[str]

EVALUATIONS = 20  # in step_hint


@dataclass(frozen=True)
class Metric:
    """A metric's name, and whether higher or lower is better."""

    name: str
    higher_is_better: bool

    def reached(self, value: float, target: float) -> bool:
        return value >= target if self.higher_is_better else value <= target

    def best(self, values: list[float]) -> float:
        return max(values) if self.higher_is_better else min(values)


@dataclass(frozen=True)
class Splits:
    """Three disjoint splits: for training, for the target, and for reporting."""

    train: Arrays
    validation: Arrays
    test: Arrays


@dataclass(frozen=True)
class Workload:
    """A training problem with a budget.

    All functions work on every device: random numbers are drawn from a CPU generator and moved to
    the device of the data, so that a seed gives the same data order everywhere.

    Raises ValueError for a name that is not a file name and for a step_hint below 20 steps.
    """

    name: str
    metric: Metric
    batch_size: int
    step_hint: int  # optimizer steps a calibrated baseline may take: AlgoPerf's 1x budget
    load: Callable[[], Splits]
    build_model: Callable[[], nn.Module]  # initialised from torch's global generator
    training_batches: Callable[[Arrays, int, Generator], Iterator[Batch]]  # endless, augmented
    loss: Callable[[nn.Module, Batch], Tensor]  # mean training loss of one batch
    evaluate: Callable[[nn.Module, Arrays], float]  # the metric; the model is in eval mode
    # The data sets that `load` reads: names in eval/data's manifest, or paths of your own files or
    # folders; () if it computes its data. Records contain their checksums.
    dataset: Dataset | tuple[Dataset, ...] = ()
    algoperf: str | None = None  # its counterpart in AlgoPerf, if there is one
    # False: a trial ends at the first evaluation that reaches the target. True, for small data
    # that a model overfits: a trial trains for at least step_hint steps and must be at the target
    # then; it reached the target when the last unbroken row of evaluations at the target began.
    # The target comes from the last evaluations of the search's runs, not from their best ones.
    must_hold_target: bool = False
    place: Reference | None = None  # where the command line found it; None: bundled

    def __post_init__(self) -> None:
        if self.eval_period < 1:
            raise ValueError(
                f"{self.name}: step_hint must be at least {EVALUATIONS}, the number of "
                f"evaluations in it, got {self.step_hint}"
            )
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(
                f"a workload's name may have letters, digits, _ and -, because file names contain "
                f"it; got {self.name!r}"
            )

    @property
    def eval_period(self) -> int:
        """Steps between evaluations."""
        return self.step_hint // EVALUATIONS

    @property
    def argument(self) -> str:
        """The workload's name for the option --workload."""
        return self.name if self.place is None else str(self.place)

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The data sets that `load` reads, as a tuple."""
        return self.dataset if isinstance(self.dataset, tuple) else (self.dataset,)
