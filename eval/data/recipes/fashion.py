"""Fashion-MNIST: small greyscale photographs of clothes, shoes and bags in ten classes."""

import gzip
from pathlib import Path

import numpy as np

from ..archives import in_deb
from . import Source

SOURCE = Source(
    packages=("apt:dataset-fashion-mnist=0.0~git20200523.55506a9-1",),
    licence="MIT",
    origin=(
        "Fashion-MNIST, Zalando SE, 2017 (Xiao, Rasul and Vollgraf, https://arxiv.org/abs/"
        "1708.07747). Equally many images of each class drawn at random, without duplicates: "
        "training and validation images from its training file, test images from its test file."
    ),
)

FOLDER = "/usr/share/datasets/fashion-mnist"
NUM_CLASSES = 10
TRAIN, VALIDATION, TEST = 1200, 250, 200  # images of each class
SEED = 0


def build(sources: Path) -> dict[str, np.ndarray]:
    """SPLIT_images (images, 28, 28): grey levels, 0 is black; SPLIT_labels (images,): 0 to 9."""
    folder = sources / "dataset-fashion-mnist"
    content = {
        name: _idx(in_deb(folder, f"{FOLDER}/{name}-ubyte.gz"))
        for file in ("train", "t10k")
        for name in (f"{file}-images-idx3", f"{file}-labels-idx1")
    }
    images = np.concatenate([content["train-images-idx3"], content["t10k-images-idx3"]])
    labels = np.concatenate([content["train-labels-idx1"], content["t10k-labels-idx1"]])
    for_test = np.arange(len(images)) >= len(content["train-images-idx3"])
    firsts = np.unique(images, axis=0, return_index=True)[1]  # one of all equal images
    order = np.random.default_rng(SEED).permutation(np.sort(firsts))
    known, unseen = order[~for_test[order]], order[for_test[order]]
    members = {
        "train": _of_each_class(labels, known, slice(0, TRAIN)),
        "validation": _of_each_class(labels, known, slice(TRAIN, TRAIN + VALIDATION)),
        "test": _of_each_class(labels, unseen, slice(0, TEST)),
    }
    arrays = {}
    for split, chosen in members.items():
        arrays |= {f"{split}_images": images[chosen], f"{split}_labels": labels[chosen]}
    return arrays


def _idx(content: bytes) -> np.ndarray:
    """The array of unsigned bytes in a gzipped IDX file: type and rank, shape, data."""
    content = gzip.decompress(content)
    kind, rank = content[2], content[3]
    assert kind == 8  # unsigned bytes
    shape = np.frombuffer(content, ">u4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _of_each_class(labels: np.ndarray, order: np.ndarray, which: slice) -> np.ndarray:
    """The images at positions `which` of each class; sorted by class, which compresses better."""
    return np.concatenate([order[labels[order] == k][which] for k in range(NUM_CLASSES)])
