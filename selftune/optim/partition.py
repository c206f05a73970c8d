"""partitioned(cls): an optimizer class for parameters that are plain shards of a model."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from selftune.optim.optimizer import Optimizer

Class = TypeVar("Class", bound=Optimizer)


def partitioned(cls: type[Class], process_group: Any = None) -> type[Class]:
    """A subclass of `cls` for plain tensors that are this rank's share of the parameters.

    A DTensor says how it is sharded. Plain tensors do not: those that an optimizer gets inside
    `ZeroRedundancyOptimizer`, under `FullyShardedDataParallel`, or in one stage of a pipeline.
    There, numbers that are estimated from all parameters need to know the other ranks.

        ZeroRedundancyOptimizer(model.parameters(), partitioned(Prodigy), process_group=group)

    `train` and `eval` move this rank's parameters only. ZeroRedundancyOptimizer has neither: call
    those of its `optim` on every rank, and broadcast each rank's parameters before you evaluate.

    process_group: the ranks that together hold every parameter once; all ranks if None. They all
        have to call `step`, also those without parameters or gradients.
    """
    attributes = {"partition": (process_group,), "__doc__": cls.__doc__}
    return cast("type[Class]", type(cls.__name__, (cls,), attributes))
