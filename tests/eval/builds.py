"""Methods for tests: some that train, some that fail, each importable by a child process."""

import os
import signal
import sys
import threading
import time
from contextlib import nullcontext

import torch
from torch import nn
from torch.optim.lr_scheduler import LinearLR

from eval.methods import Built


def sgd(model: nn.Module, num_steps: int) -> Built:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return optimizer, LinearLR(optimizer, 1.0, 0.1, num_steps), None


def sgd_to_zero(model: nn.Module, num_steps: int) -> Built:
    """Its learning rate is zero from `num_steps` on."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return optimizer, LinearLR(optimizer, 1.0, 0.0, num_steps), None


class _WithoutLearningRate(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-0.1)


def moving_at_zero(model: nn.Module, num_steps: int) -> Built:
    """Its `lr` says nothing about how far it moves."""
    return _WithoutLearningRate(model.parameters(), lr=0.0), None, None


def adam(model: nn.Module, num_steps: int) -> Built:
    return torch.optim.Adam(model.parameters(), lr=0.01), None, None


def sgd_evaluated_where_it_trains(model: nn.Module, num_steps: int) -> Built:
    optimizer, scheduler, _ = sgd(model, num_steps)
    return optimizer, scheduler, nullcontext


def diverging(model: nn.Module, num_steps: int) -> Built:
    return torch.optim.SGD(model.parameters(), lr=1e30), None, None


class _Failing(torch.optim.SGD):
    """Trains for 5 steps and then fails in its own way."""

    def __init__(self, model: nn.Module, fail):
        super().__init__(model.parameters(), lr=0.1)
        self.fail, self.steps = fail, 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps > 5:
            self.fail()
        return super().step(closure)


def raising(model: nn.Module, num_steps: int) -> Built:
    def fail():
        raise RuntimeError("the gradient is bent\nsecond line")

    return _Failing(model, fail), None, None


def exiting(model: nn.Module, num_steps: int) -> Built:
    return _Failing(model, lambda: sys.exit("enough")), None, None


def vanishing(model: nn.Module, num_steps: int) -> Built:
    return _Failing(model, lambda: os._exit(3)), None, None


def killed(model: nn.Module, num_steps: int) -> Built:
    return _Failing(model, lambda: os.kill(os.getpid(), signal.SIGKILL)), None, None


def crashing(model: nn.Module, num_steps: int) -> Built:
    return _Failing(model, lambda: os.kill(os.getpid(), signal.SIGSEGV)), None, None


def killed_once(mark: str, model: nn.Module, num_steps: int) -> Built:
    """Killed unless `mark` is there, which it leaves."""
    if os.path.exists(mark):
        return sgd(model, num_steps)
    with open(mark, "w"):
        return killed(model, num_steps)


def full(model: nn.Module, num_steps: int) -> Built:
    def fail():
        raise MemoryError

    return _Failing(model, fail), None, None


def full_torch(model: nn.Module, num_steps: int) -> Built:
    return _Failing(model, lambda: torch.empty(1 << 60)), None, None


def lingering(model: nn.Module, num_steps: int) -> Built:
    """Leaves a thread behind that keeps its process from exiting."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return sgd(model, num_steps)


def endless(model: nn.Module, num_steps: int) -> Built:
    """Writes its process's number where the test can find it and never takes a sixth step."""
    with open(os.environ["PROCESS_NUMBERS"], "a") as file:
        file.write(f"{os.getpid()}\n")
    return _Failing(model, lambda: time.sleep(600)), None, None


class _ByHand:
    """Gradient descent without torch.optim, whose import takes most of a short trial's time."""

    def __init__(self, model: nn.Module):
        self.params = list(model.parameters())
        self.param_groups = [{"params": self.params, "lr": 0.1}]

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self, closure):
        for p in self.params:
            p -= 0.1 * p.grad


def by_hand(model: nn.Module, num_steps: int) -> Built:
    return _ByHand(model), None, None  # pyright: ignore[reportReturnType]
