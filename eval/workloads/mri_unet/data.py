"""Reconstruction of brain slices from undersampled k-space: data, loss and metric."""

from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ...data import read
from ...workload import Arrays, Batch, Metric, Splits

METRIC = Metric("SSIM", higher_is_better=True)
MEASURED = 0.25  # share of the columns of k-space that are measured
CENTRE = 0.08  # share of the columns that are always measured: the lowest frequencies
MASK_SEED = 0  # for the measured columns of validation and test
JUDGED = 56  # pixels: side of the central square that the metric compares; outside is mostly air
EVALUATION_BATCH = 8


def load() -> Splits:
    """slices (slices, height, width), from 0 to 1.

    Validation and test also have columns (slices, width): True where k-space was measured.
    """
    arrays = read("heads")
    generator = Generator().manual_seed(MASK_SEED)

    def held_out(name: str) -> Arrays:
        slices = _scaled(arrays[name])
        return {
            "slices": slices,
            "columns": random_columns(len(slices), slices.shape[2], generator),
        }

    train = {"slices": _scaled(arrays["train"])}
    return Splits(train, held_out("validation"), held_out("test"))


def _scaled(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(levels).float() / 255


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(zero-filled images, slices), each (batch, height, width).

    Both are standardised with the mean and deviation of the zero-filled image. Slices are
    mirrored and transposed at random, and other columns are measured each time.
    """
    slices = train["slices"]
    while True:
        order = torch.randperm(len(slices), generator=generator)
        for members in order.split(batch_size)[: len(slices) // batch_size]:
            chances = torch.rand(3, batch_size, 1, 1, generator=generator)
            columns = random_columns(batch_size, slices.shape[2], generator)
            down, across, transposed = (chances < 0.5).to(slices.device)
            batch = slices[members.to(slices.device)]
            batch = torch.where(down, batch.flip(1), batch)
            batch = torch.where(across, batch.flip(2), batch)
            batch = torch.where(transposed, batch.mT, batch)
            images, mean, std = standardised(zero_filled(batch, columns.to(slices.device)))
            yield images, (batch - mean) / std


def random_columns(number: int, width: int, generator: Generator) -> Tensor:
    """(number, width): True where k-space is measured; frequencies in torch.fft's order."""
    order = torch.rand(number, width, generator=generator)
    order[:, torch.fft.fftfreq(width).abs() <= CENTRE / 2] = -1.0
    chosen = order.argsort(dim=1)[:, : round(MEASURED * width)]
    return torch.zeros(number, width, dtype=torch.bool).scatter(1, chosen, True)


def zero_filled(slices: Tensor, columns: Tensor) -> Tensor:
    """Images (slices, height, width) from k-space with zeros in place of unmeasured columns."""
    measured = torch.fft.fft2(slices) * rearrange(columns, "slice column -> slice 1 column")
    return torch.fft.ifft2(measured).abs()


def standardised(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each image with mean 0 and deviation 1; the means and the deviations, (images, 1, 1)."""
    std, mean = torch.std_mean(images, dim=(1, 2), keepdim=True)
    return (images - mean) / std, mean, std


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean absolute error per pixel, in deviations of the zero-filled images."""
    images, slices = batch
    return F.l1_loss(model(images), slices)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean structural similarity (SSIM) of the slices' central squares, in windows of 7 x 7 pixels.

    The data range is the brightest pixel of the split.
    """
    from skimage.metrics import structural_similarity  # imported here to start commands faster

    slices = split["slices"]
    images, mean, std = standardised(zero_filled(slices, split["columns"]))
    restored = torch.cat([model(part) for part in images.split(EVALUATION_BATCH)]) * std + mean
    pairs = zip(_middle(restored), _middle(slices), strict=True)
    brightest = float(slices.max())
    similarities = [
        structural_similarity(*pair, win_size=7, data_range=brightest) for pair in pairs
    ]
    return float(np.mean(similarities))


def _middle(slices: Tensor) -> np.ndarray:
    """(slices, JUDGED, JUDGED): the central square of each slice."""
    edge = (slices.shape[1] - JUDGED) // 2
    return slices[:, edge : edge + JUDGED, edge : edge + JUDGED].cpu().numpy()
