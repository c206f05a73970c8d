"""The problem and the helpers of the conformance checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selftune import optim

SHAPES = [(3, 2), (4,), (), (2, 1, 2)]
FLAGS = ("foreach", "fused", "maximize", "capturable", "differentiable", "compile")


@dataclass(frozen=True)
class Make:
    """A class, the options it is given, and whether train() is called after construction."""

    cls: type[torch.optim.Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    call_train: bool = False

    def __call__(self, params: Any, **options: Any) -> Any:
        optimizer: Any = self.cls(params, **{**self.options, **options})
        if self.call_train:
            optimizer.train()
        return optimizer

    @property
    def lr(self) -> float:
        return self.options.get("lr", inspect.signature(self.cls).parameters["lr"].default)

    @property
    def no_decay(self) -> dict[str, float]:
        takes = "weight_decay" in inspect.signature(self.cls).parameters
        return {"weight_decay": 0.0} if takes else {}


class AroundTorchs(optim.ScheduleFree):
    """ScheduleFree around torch's AdamW, constructed like other optimizers."""

    def __init__(self, params: Any, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        super().__init__(torch.optim.AdamW(params, betas=(0.0, 0.999), **options))


class AroundOurs(optim.ScheduleFree):
    """ScheduleFree around our AdamW, constructed like other optimizers."""

    def __init__(self, params: Any, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        super().__init__(optim.AdamW(params, betas=(0.0, 0.999), **options))


Check = Callable[[Make], None]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def weights(dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [tensor.to(device=device, dtype=dtype).requires_grad_() for tensor in tensors]


def give_gradients(params: Iterable[Tensor], step: int) -> None:
    """Set the gradients of a noisy quadratic around 1, the same for equal parameters and steps."""
    generator = torch.Generator().manual_seed(step)
    for p in params:
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        p.grad = p.detach() - 1 + 0.5 * noise.to(device=p.device, dtype=p.dtype)


def take_step(optimizer: Any, loss: Any = None) -> None:
    optimizer.step(**loss_for(optimizer, loss))


def loss_for(optimizer: Any, loss: Any = None) -> dict[str, Any]:
    """What `step` has to be given: nothing, or a loss; without another, the bowl's."""
    if not getattr(optimizer, "takes_loss", False):
        return {}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    with torch.no_grad():
        return {"loss": bowl(p for p in params if p.grad is not None) if loss is None else loss}


def train(optimizer: Any, steps: Iterable[int]) -> None:
    for step in steps:
        give_gradients([p for group in optimizer.param_groups for p in group["params"]], step)
        take_step(optimizer)


def twins(params: Iterable[Tensor]) -> list[Tensor]:
    return [p.detach().clone().requires_grad_() for p in params]


def loaded(make: Make, params: Iterable[Tensor], saved: Any) -> tuple[Any, list[Tensor]]:
    """A new optimizer of copies of the parameters, with a loaded state dict."""
    others = twins(params)
    other = make(others)
    other.load_state_dict(saved)
    return other, others


def trained(make: Make, steps: int = 5, dtype: torch.dtype = torch.float32) -> Any:
    params = weights(dtype)
    optimizer = make(params)
    train(optimizer, range(steps))
    return optimizer, params


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal, tensors bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


def assert_same_future(one: Any, params: Any, other: Any, others: Any) -> None:
    """Assert that both continue equally, bit for bit."""
    assert same(one.state_dict()["state"], other.state_dict()["state"])
    train(one, range(20, 25))
    train(other, range(20, 25))
    assert same(params, others)


def bowl(params: Iterable[Tensor]) -> Tensor:
    return torch.stack([0.5 * (p - 1).abs().square().sum() for p in params]).sum()


def descend(optimizer: Any, params: list[Tensor], plans: Iterable[Any] = ()) -> None:
    """The loss goes down in 500 steps, and not by chance."""
    before = bowl(params).item()
    for _ in range(500):
        optimizer.zero_grad()
        bowl(params).backward()
        take_step(optimizer)
        for plan in plans:
            plan.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    assert bowl(params).item() < 0.95 * before
