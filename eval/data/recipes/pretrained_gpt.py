"""Weights of a small language model pretrained on the World English Bible.

A rebuild on another kind of machine agrees to a few digits only, as training amplifies rounding.
"""

from pathlib import Path

import numpy as np

from . import Source

SOURCE = Source(
    packages=(),  # built from the data set `verses`
    licence="Apache-2.0",
    origin=(
        "Weights of the model of the workload text_gpt, trained by this project on the training "
        "text of the data set verses."
    ),
)

BATCH_SIZE, STEPS, LR, SEED = 24, 2500, 5e-3, 0


def build(sources: Path) -> dict[str, np.ndarray]:
    """Every parameter by name, rounded to float16."""
    import torch

    from ...workloads.text_gpt import WORKLOAD

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that sums are always computed in the same order
    torch.manual_seed(SEED)
    model = WORKLOAD.build_model()
    batches = WORKLOAD.training_batches(
        WORKLOAD.load().train, BATCH_SIZE, torch.Generator().manual_seed(SEED)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
    for _, batch in zip(range(STEPS), batches, strict=False):
        optimizer.zero_grad()
        WORKLOAD.loss(model, batch).backward()
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    return {name: p.detach().numpy().astype(np.float16) for name, p in model.named_parameters()}
