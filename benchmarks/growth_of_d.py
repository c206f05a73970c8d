"""Growth of d in a step: the largest d_{k+1} / d_k over many small random problems.

    python -m benchmarks.growth_of_d

`LARGEST_JUMP` in selftune/optim/distance.py was chosen from these numbers.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from selftune import optim

PROBLEMS, STEPS = 300, 150
CLASSES = (optim.Prodigy, optim.DAdaptAdam, optim.DAdaptSGD)


def growths(cls: type, seed: int) -> list[float]:
    """d_{k+1} / d_k for each step on |p - target| with a smoothed gradient at the minimum."""
    choose = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)

    def normal(size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    sizes = [choose.randint(1, 12) for _ in range(choose.randint(1, 4))]
    noise, d = choose.choice([0.0, 0.3, 3.0, 30.0]), choose.choice([1e-6, 1e-4, 1e-2])
    betas = {} if cls is optim.DAdaptSGD else {"betas": (0.9, choose.choice([0.9, 0.99, 0.999]))}
    params, targets = [normal(n).requires_grad_() for n in sizes], [normal(n) for n in sizes]
    optimizer = cls(params, d0=d, **betas)
    found = []
    for _ in range(STEPS):
        for p, target in zip(params, targets, strict=True):
            p.grad = (p.detach() - target).tanh() + noise * normal(len(p))
        optimizer.step()
        before, d = d, optimizer.param_groups[0]["d"].item()
        found.append(d / before)
    return found


def main() -> None:
    torch.set_num_threads(1)
    print(f"{PROBLEMS} problems of 1 to 48 numbers, {STEPS} steps each")
    print(f"{'':12} {'median of the largest':>22} {'99th percentile':>16} {'largest':>9}")
    for cls in CLASSES:
        largest = sorted(max(growths(cls, seed)) for seed in range(PROBLEMS))
        median, high = largest[PROBLEMS // 2], largest[PROBLEMS * 99 // 100]
        print(f"{cls.__name__:12} {median:22.2f} {high:16.2f} {largest[-1]:9.2f}")


if __name__ == "__main__":
    main()
