"""English user-interface texts as bytes, in the format of text_gpt's data."""

import numpy as np
import torch
from torch import Tensor

from ...data import read
from ...data.byte_pairs import decode
from ...workload import Splits
from ..text_gpt.data import spread

END = 1  # the unit that ends every sentence


def load() -> Splits:
    """Training text (bytes,); validation and test windows (EVALUATION_WINDOWS, CONTEXT + 1)."""
    arrays = read("sentences")
    units = arrays["units"].tolist()
    train, validation, test = (
        _text(arrays[f"{split}_english"], units) for split in ("train", "validation", "test")
    )
    return Splits({"text": train}, {"windows": spread(validation)}, {"windows": spread(test)})


def _text(numbers: np.ndarray, units: list[str]) -> Tensor:
    """The bytes (bytes,) of all ASCII sentences, one sentence per line."""
    sentences = np.split(numbers, np.flatnonzero(numbers == END) + 1)[:-1]
    lines = [decode([units[unit] for unit in sentence[:-1]]) + "\n" for sentence in sentences]
    text = "".join(line for line in lines if line.isascii())
    return torch.tensor(list(text.encode()), dtype=torch.int64)
