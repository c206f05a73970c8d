"""Handwritten digits of 8 x 8 pixels, so few that a network can memorize them."""

import gzip
import io
from pathlib import Path

import numpy as np

from ..archives import in_wheel
from . import Source

SOURCE = Source(
    packages=("pip:scikit-learn==1.7.2",),
    licence="CC-BY-4.0",
    origin=(
        "Optical Recognition of Handwritten Digits, Ethem Alpaydin and Cenk Kaynak, 1998, from the "
        "UCI Machine Learning Repository; its test set as scikit-learn packages it. "
        "Shuffled and split at random."
    ),
)

TRAIN, VALIDATION = 200, 700  # images; the other 897 are for test
SEED = 0


def build(sources: Path) -> dict[str, np.ndarray]:
    """images (images, 8, 8): ink from 0 to 16; labels (images,): 0 to 9.

    split: 0 train, 1 validation, 2 test.
    """
    content = in_wheel(sources / "scikit-learn", "sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(io.BytesIO(gzip.decompress(content)), delimiter=",").astype(np.uint8)
    table = table[np.random.default_rng(SEED).permutation(len(table))]
    sizes = (TRAIN, VALIDATION, len(table) - TRAIN - VALIDATION)
    return {
        "images": table[:, :64].reshape(-1, 8, 8),
        "labels": table[:, 64],
        "split": np.repeat(np.arange(3, dtype=np.uint8), sizes),
    }
