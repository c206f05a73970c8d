"""What is trained and how it is judged; nothing about optimizers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor, nn

Arrays = Mapping[str, Any]  # one split: tensors (and plain values) by name
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Metric:
    """What a model is judged by, and which way is better."""

    name: str
    higher_is_better: bool

    def reached(self, value: float, target: float) -> bool:
        return value >= target if self.higher_is_better else value <= target

    def best(self, values: list[float]) -> float:
        return max(values) if self.higher_is_better else min(values)


@dataclass(frozen=True)
class Splits:
    """Three disjoint parts: trained on, judged on, reported."""

    train: Arrays
    validation: Arrays
    test: Arrays


@dataclass(frozen=True)
class Workload:
    """A training problem with a budget.

    All functions are device-agnostic: random numbers are drawn from the CPU generator and
    moved to where the data are, so that one seed means one data order everywhere.
    """

    name: str
    algoperf: str  # the AlgoPerf workload it stands for
    dataset: str  # the file under eval/data it reads
    metric: Metric
    batch_size: int
    step_hint: int  # optimizer steps a calibrated baseline may take: AlgoPerf's 1x budget
    load: Callable[[], Splits]
    build_model: Callable[[], nn.Module]  # initialised from torch's global generator
    training_batches: Callable[[Arrays, int, Generator], Iterator[Batch]]  # endless, augmented
    loss: Callable[[nn.Module, Batch], Tensor]  # mean training loss of one batch
    evaluate: Callable[[nn.Module, Arrays], float]  # the metric; the model is in eval mode

    def __post_init__(self) -> None:
        assert self.eval_period > 0, f"{self.name}: a step_hint of {self.step_hint} is below 20"

    @property
    def eval_period(self) -> int:
        """Steps between evaluations: 20 of them in `step_hint`."""
        return self.step_hint // 20
