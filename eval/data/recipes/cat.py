"""A small photograph whose pixels are divided into three splits."""

import io
from pathlib import Path

import numpy as np
from einops import reduce

from ..archives import in_wheel
from . import Source

SOURCE = Source(
    packages=("pip:scikit-image==0.25.2",),
    licence="CC0-1.0",
    origin=(
        "Chelsea the cat, photographed by Stefan van der Walt, as scikit-image packages it. "
        "Cut to a square, averaged to 96 x 96 pixels, its pixels split at random."
    ),
)

TOP, LEFT, SIDE = 6, 80, 288  # pixels of the original
SHRINK = 3
HELD_OUT = 0.125  # share of the pixels for validation, and as many for test
SEED = 0


def build(sources: Path) -> dict[str, np.ndarray]:
    """pixels (rows, columns, 3): red, green and blue.

    split (rows, columns): 0 train, 1 validation, 2 test.
    """
    from skimage.io import imread

    image = imread(io.BytesIO(in_wheel(sources / "scikit-image", "skimage/data/chelsea.png")))
    square = image[TOP : TOP + SIDE, LEFT : LEFT + SIDE].astype(np.float64)
    pixels = reduce(
        square, "(row down) (column right) c -> row column c", "mean", down=SHRINK, right=SHRINK
    )
    rows, columns, _ = pixels.shape
    held_out = round(HELD_OUT * rows * columns)
    split = np.repeat(
        np.arange(3, dtype=np.uint8), (rows * columns - 2 * held_out, held_out, held_out)
    )
    split = np.random.default_rng(SEED).permutation(split).reshape(rows, columns)
    return {"pixels": pixels.round().astype(np.uint8), "split": split}
