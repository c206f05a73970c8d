"""A short run of a workload, for the tests that only look at its losses."""

import torch

from eval.workload import Arrays, Workload


def losses(
    workload: Workload, train: Arrays, seed: int, steps: int, batch_size: int, lr: float
) -> list[float]:
    """The training loss of every step under AdamW; one seed for the model and the batches."""
    torch.manual_seed(seed)
    model = workload.build_model()
    batches = workload.training_batches(train, batch_size, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    found = []
    for _, batch in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        loss = workload.loss(model, batch)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
