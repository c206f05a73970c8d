"""partitioned: optimizers of plain tensors that are one rank's part of the parameters."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from selftune.optim.optimizer import Optimizer

Class = TypeVar("Class", bound=Optimizer)


def partitioned(cls: type[Class], process_group: Any = None) -> type[Class]:
    """A subclass for plain tensors that are this rank's part of the parameters.

    A DTensor says how it is sharded. The parameters that reach an optimizer inside
    `ZeroRedundancyOptimizer`, under `FullyShardedDataParallel`, or in one stage of a pipeline do
    not, and what is estimated from all of them has to know the other ranks.

        ZeroRedundancyOptimizer(model.parameters(), partitioned(Prodigy), process_group=group)

    `train` and `eval` move this rank's part only. ZeroRedundancyOptimizer has neither: call those
    of its `optim` on every rank, and broadcast each part to the other ranks before it is judged.

    process_group: the ranks which together hold every parameter once; all ranks if None. They
        have to step together, those without parameters or gradients too.
    """
    attributes = {"partition": (process_group,), "__doc__": cls.__doc__}
    return cast("type[Class]", type(cls.__name__, (cls,), attributes))
