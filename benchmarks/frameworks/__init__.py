"""Optimizers in training frameworks: the scripts behind the table of docs/frameworks.md.

Every script trains the same small problem in one framework, validates, saves a checkpoint during
the run, and resumes. Lines that an optimizer needs are in the script's functions `wire_...`, in
which they are counted.
"""

import importlib.util
from pathlib import Path

import torch


def _declare_operators_of_torchvision() -> None:
    """Make timm and fastai importable if torchvision was built for CUDA and torch was not.

    Then torchvision's library does not load, and its import fails at operators not needed here.
    """
    found = importlib.util.find_spec("torchvision")
    for folder in (found and found.submodule_search_locations) or ():
        try:
            torch.ops.load_library(next(Path(folder).glob("_C*")))
        except OSError:
            for name in ("nms", "qnms"):
                arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{name}", arguments)


_declare_operators_of_torchvision()
