"""The share of orthogonalization in a SelfTune step: `python -m benchmarks.orthogonalization`.

Three optimizers take one step each in every round: SelfTune, SelfTune with the momentum itself in
place of the nearest semi-orthogonal matrix, and torch's fused AdamW. The problems are the two of
`benchmarks/optimizer_step.py`, and four transformer layers of widths 64, 256 and 1,024. A number is
a step's time divided by AdamW's in the same round, the median over rounds. The share is the time
that orthogonalization adds, divided by that of SelfTune's step.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor

from benchmarks.optimizer_step import PROBLEMS, Shapes, parameters, seconds_of
from selftune import SelfTune
from selftune.optim import self_tune

WIDTHS = (64, 256, 1024)


def layers(width: int, number: int = 4) -> Shapes:
    """The tensors of transformer layers: attention, feed-forward of 4 x width, norms and biases."""
    attention = [(3 * width, width), (3 * width,), (width, width), (width,)]
    feed_forward = [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [*attention, *feed_forward, *[(width,)] * 4] * number


def compared(shapes: Shapes, rounds: int, device: str) -> tuple[float, float]:
    """SelfTune's step with and without orthogonalization, in units of fused AdamW's (medians)."""

    def params() -> list[Tensor]:
        return parameters(shapes, device)

    whole, rest = (SelfTune(params(), compile=True) for _ in range(2))
    fused = torch.optim.AdamW(params(), fused=True)
    orthogonalized_parts = self_tune.orthogonalized_parts
    ratios: list[tuple[float, float]] = []
    for turn in range(rounds + 3):  # the first three compile, and allocate
        taken = seconds_of(whole.step, device)
        self_tune.orthogonalized_parts = lambda members, parts: list(parts)
        try:
            without = seconds_of(rest.step, device)
        finally:
            self_tune.orthogonalized_parts = orthogonalized_parts
        reference = seconds_of(fused.step, device)
        if turn >= 3:
            ratios.append((taken / reference, without / reference))
    with_it, without_it = zip(*ratios, strict=True)
    return statistics.median(with_it), statistics.median(without_it)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    problems = {f"({name})": shapes() for name, shapes in PROBLEMS.items()}
    problems |= {f"width {width:,}": layers(width) for width in WIDTHS}
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads\n")
    print("| problem | SelfTune to fused AdamW | without orthogonalization | its share |")
    print("|---|---|---|---|")
    for name, shapes in problems.items():
        whole, rest = compared(shapes, arguments.rounds, arguments.device)
        print(f"| {name} | {whole:.2f} | {rest:.2f} | {1 - rest / whole:.0%} |", flush=True)


if __name__ == "__main__":
    main()
