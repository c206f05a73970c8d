"""Training divided among ranks against training in one process: `python -m benchmarks.sharding`.

Several optimizers train at the same time, each its own small network; all networks are parts of one
module, which is divided in one of torch's ways. The command prints the tables of docs/sharding.md:
the difference between divided runs and the run of one process, and between the ranks' estimates of
d, for our classes and those of installed peers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from benchmarks.conformance.problem import loss_for
from benchmarks.ranks import in_worlds
from selftune import optim
from selftune.optim import partitioned

STEPS = 20
BATCH = 16
EVEN = (6, 8, 4, 4)
UNEVEN = (6, 7, 5, 1)  # 7 rows do not divide evenly, and 1 row is fewer than the ranks

Make = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class Runner:
    """An optimizer's class with its options."""

    make: Make
    options: dict[str, Any]


@dataclass
class Run:
    """The results of a run on one rank."""

    weights: list[Tensor]  # whole
    d: float | None  # the estimate, if there is one
    all_reduces: set[int]  # calls in one step, over the steps
    error: str | None = None


class Bank(nn.Module):
    """Independent networks with the same initial weights, as parts of one module."""

    losses: Tensor  # of the last batch, on this rank

    def __init__(self, names: list[str], widths: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.nets = nn.ModuleDict({name: network(widths, dtype) for name in names})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        losses = [(net(x) - y).square().mean() for net in self.nets.values()]
        self.losses = torch.stack(losses).detach()
        return torch.stack(losses).sum()


def network(widths: tuple[int, ...], dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, dtype=dtype), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def batch(step: int, order: Tensor | None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, 6, generator=generator, dtype=torch.float64)
    y = x.sin().sum(1, keepdim=True)
    return (x, y) if order is None else (x[order], y[order])


# -- the ways to divide -------------------------------------------------------------------------


def whole(bank: Bank) -> nn.Module:
    return bank


def ddp(bank: Bank) -> nn.Module:
    return nn.parallel.DistributedDataParallel(bank)


def fsdp1(bank: Bank) -> nn.Module:
    for name, net in bank.nets.items():
        bank.nets[name] = FullyShardedDataParallel(
            net, use_orig_params=True, device_id=torch.device("cpu")
        )
    return bank


def fsdp2(bank: Bank, mesh: DeviceMesh | None = None) -> nn.Module:
    return fully_shard(bank, mesh=mesh)


def mesh_2d() -> DeviceMesh:
    shape = (2, dist.get_world_size() // 2)
    return init_device_mesh("cpu", shape, mesh_dim_names=("outer", "inner"))


def hsdp(bank: Bank) -> nn.Module:
    return fsdp2(bank, mesh_2d())


def tensor_parallel(bank: Bank, mesh: DeviceMesh | None = None) -> nn.Module:
    mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(
        bank, mesh, {"nets.*.0": ColwiseParallel(), "nets.*.2": RowwiseParallel()}
    )


def tensor_parallel_fsdp2(bank: Bank) -> nn.Module:
    mesh = mesh_2d()
    tensor_parallel(bank, mesh["inner"])
    return fsdp2(bank, mesh["outer"])


@dataclass(frozen=True)
class Way:
    divide: Callable[[Bank], nn.Module]
    widths: tuple[int, ...] = EVEN
    data_ranks: Callable[[int], int] = lambda world: world  # number of ranks that share a batch
    zero: bool = False  # ZeroRedundancyOptimizer
    partitioned: bool = False  # whether our optimizers must be told that they hold only a part
    own_loss: bool = False  # whether a step gets the loss of the rank's own part of the batch


WAYS = {
    "DDP": Way(ddp),
    "FSDP2": Way(fsdp2),
    "FSDP2 uneven": Way(fsdp2, widths=UNEVEN, own_loss=True),
    "HSDP": Way(hsdp),
    "tensor parallel": Way(tensor_parallel, data_ranks=lambda world: 1),
    "tensor parallel x FSDP2": Way(tensor_parallel_fsdp2, data_ranks=lambda world: world // 2),
    "ZeRO": Way(ddp, zero=True, partitioned=True, own_loss=True),
    # Two tensors for up to four ranks.
    "ZeRO, idle ranks": Way(ddp, widths=(6, 1), zero=True, partitioned=True),
    "FSDP1": Way(fsdp1, partitioned=True),
}
TWO = ("DDP", "FSDP2", "FSDP2 uneven", "tensor parallel", "ZeRO", "ZeRO, idle ranks", "FSDP1")
FOUR = ("FSDP2 uneven", "HSDP", "tensor parallel x FSDP2", "ZeRO, idle ranks")


# -- a run --------------------------------------------------------------------------------------


class Training:
    """A run of each runner, all divided in one way; None: in one process."""

    def __init__(
        self,
        runners: dict[str, Runner],
        way: str | None = None,
        dtype: torch.dtype = torch.float64,
        widths: tuple[int, ...] = EVEN,
        order: Tensor | None = None,
    ) -> None:
        plan = Way(whole, widths, lambda _: 1) if way is None else WAYS[way]
        self.dtype, self.order = dtype, order
        self.bank = Bank(list(runners), plan.widths, dtype)
        self.divided = plan.divide(self.bank)
        self.runs = {name: Run([], None, set()) for name in runners}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, runner in runners.items():
            try:
                self.optimizers[name] = _optimizer(self.bank.nets[name], runner, plan)
            except ValueError as error:
                self.runs[name].error = f"ValueError: {error}"
        ranks = plan.data_ranks(dist.get_world_size()) if way else 1
        first = dist.get_rank() * ranks // dist.get_world_size() if way else 0
        self.mine = slice(first, None, ranks)  # of a batch
        self.own_loss = plan.own_loss or not way

    def steps(self, steps: range) -> None:
        """Trains; in some steps, a part of each network has no gradient."""
        for step in steps:
            x, y = (part[self.mine].to(self.dtype) for part in batch(step, self.order))
            self.divided.zero_grad()
            self.divided(x, y).backward()
            losses = self.bank.losses
            if not self.own_loss:
                dist.all_reduce(losses)
                losses /= dist.get_world_size()
            for name, loss in zip(self.runs, losses, strict=True):
                if step in (5, 6):
                    params = self.bank.nets[name].named_parameters()
                    next(p for key, p in params if key.endswith("0.bias")).grad = None
                if self.runs[name].error is None:
                    _step(self.optimizers[name], loss, self.runs[name])

    def finished(self) -> dict[str, Run]:
        for name, run in self.runs.items():
            run.weights = _whole_weights(self.bank.nets[name])
            if name in self.optimizers:
                optimizer = self.optimizers[name]
                group = getattr(optimizer, "optim", optimizer).param_groups[0]
                run.d = float(group["d"]) if "d" in group else None
        return self.runs


def train(*args: Any, **kwargs: Any) -> dict[str, Run]:
    """The result of a whole `Training`."""
    training = Training(*args, **kwargs)
    training.steps(range(STEPS))
    return training.finished()


def _optimizer(net: nn.Module, runner: Runner, plan: Way) -> torch.optim.Optimizer:
    """The optimizer with two groups: weights, and biases with half of the weight decay."""
    named = list(net.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in named if name.endswith("weight")]},
        {"params": [p for name, p in named if name.endswith("bias")]},
    ]
    if "weight_decay" in runner.options:
        groups[1]["weight_decay"] = runner.options["weight_decay"] / 2
    make = runner.make
    if isinstance(make, type) and issubclass(make, optim.Optimizer) and plan.partitioned:
        make = partitioned(make)
    if plan.zero:
        # Here, as importing it warns of torch's own use of a deprecated function.
        from torch.distributed.optim import ZeroRedundancyOptimizer

        optimizer: Any = ZeroRedundancyOptimizer(groups, optimizer_class=make, **runner.options)
    else:
        optimizer = make(groups, **runner.options)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, run: Run) -> None:
    inner = getattr(optimizer, "optim", optimizer)
    with counted_all_reduces() as calls:
        try:
            optimizer.step(**loss_for(inner, loss))
        except Exception as error:
            run.error = f"{type(error).__name__}: {error}"
    run.all_reduces.add(len(calls))


@contextmanager
def counted_all_reduces() -> Iterator[list[Any]]:
    original, calls = dist.all_reduce, []

    def counting(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(tensor.shape)
        return original(tensor, *args, **kwargs)

    dist.all_reduce = counting
    try:
        yield calls
    finally:
        dist.all_reduce = original


def _whole_weights(net: nn.Module) -> list[Tensor]:
    if isinstance(net, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(net):
            return [p.detach().clone() for p in net.parameters()]
    return [
        (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for p in net.parameters()
    ]


def apart(one: Run, other: Run) -> float:
    """The largest difference between two weights."""
    pairs = zip(one.weights, other.weights, strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


# -- the tables ---------------------------------------------------------------------------------

PEERS = {  # the name in the table: module, class, options
    "torch AdamW": ("torch.optim", "AdamW", {"lr": 0.01}),
    "schedulefree AdamWScheduleFree": ("schedulefree", "AdamWScheduleFree", {"lr": 0.01}),
    "prodigyopt Prodigy": ("prodigyopt", "Prodigy", {}),
    "dadaptation DAdaptAdam": ("dadaptation", "DAdaptAdam", {}),
    "pytorch_optimizer Prodigy": ("pytorch_optimizer", "Prodigy", {}),
}


def ours() -> dict[str, Runner]:
    classes = (value for value in vars(optim).values() if isinstance(value, type))
    return {
        cls.__name__: Runner(cls, {})
        for cls in classes
        if issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
    }


def peers() -> dict[str, Runner]:
    found = {}
    for name, (module, cls, options) in PEERS.items():
        try:
            found[name] = Runner(getattr(importlib.import_module(module), cls), options)
        except ImportError:
            print(f"{name} is not installed")
    return found


def in_ways(ways: tuple[str, ...], runners: dict[str, Runner]) -> dict[str, dict[str, Run]]:
    """For each way, every runner's run, as one rank of the current world."""
    return {way: train(runners, way) for way in ways}


def main() -> None:
    runners = {**ours(), **peers()}
    worlds = in_worlds({2: (in_ways, TWO, runners), 4: (in_ways, FOUR, runners)})
    places = [(2, way) for way in TWO] + [(4, way) for way in FOUR]
    alone = {widths: train(runners, widths=widths) for widths in {w.widths for w in WAYS.values()}}
    print("Largest difference of a weight after 20 steps, float64 / of d between ranks:\n")
    print("|", " | ".join(["", *(f"{way}, {size} ranks" for size, way in places)]), "|")
    print("|", " | ".join(["---"] * (len(places) + 1)), "|")
    for name in runners:
        cells = []
        for size, way in places:
            runs = [by_way[way][name] for by_way in worlds[size]]
            errors = [run.error for run in runs if run.error]
            distance = max(apart(run, alone[WAYS[way].widths][name]) for run in runs)
            estimates = [run.d for run in runs if run.d is not None]
            spread = max(estimates, default=0.0) - min(estimates, default=0.0)
            text = errors[0].split(":")[0] if errors else f"{distance:.0e}"
            cells.append(f"{text} / {spread:.0e}" if estimates and not errors else text)
        print("|", " | ".join([name, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
