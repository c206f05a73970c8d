"""Windows of a text; a model predicts each byte from the bytes before it."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ...data import read
from ...workload import Arrays, Batch, Splits
from .model import CONTEXT

EVALUATION_WINDOWS = 192  # each with CONTEXT predicted bytes, evenly spaced in the held-out text
EVALUATION_BATCH = 64


def load() -> Splits:
    """Training text (bytes,); validation and test windows (EVALUATION_WINDOWS, CONTEXT + 1)."""
    arrays = {
        name: torch.from_numpy(text.astype(np.int64)) for name, text in read("verses").items()
    }
    return Splits(
        {"text": arrays["train"]},
        {"windows": spread(arrays["validation"])},
        {"windows": spread(arrays["test"])},
    )


def spread(text: Tensor) -> Tensor:
    """Evenly spaced windows (EVALUATION_WINDOWS, CONTEXT + 1), the same for every model."""
    windows = text.unfold(0, CONTEXT + 1, len(text) // EVALUATION_WINDOWS)
    return windows[:EVALUATION_WINDOWS].contiguous()


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(windows,): (batch, CONTEXT + 1), each from a random position of the text."""
    windows = train["text"].unfold(0, CONTEXT + 1, 1)  # all windows, without copying
    while True:
        starts = torch.randint(len(windows), (batch_size,), generator=generator)
        yield (windows[starts.to(windows.device)],)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy in nats of all bytes of the windows except the first."""
    (windows,) = batch
    logits = model(windows[:, :-1])  # (window, position, byte)
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean cross-entropy in nats per byte; all batches have equally many windows."""
    batches = split["windows"].split(EVALUATION_BATCH)
    return float(sum(loss(model, (windows,)) for windows in batches)) / len(batches)
