"""Optimizers in training frameworks: the scripts behind the table of docs/frameworks.md.

Every script trains the same small problem in one framework, validates and saves in mid-run, and
resumes. A subject that needs lines of its own is given them by the script's `wire_...`, where
they are counted.
"""

import importlib.util
from pathlib import Path

import torch


def _declare_operators_of_torchvision() -> None:
    """Let timm and fastai be imported where torchvision was built for CUDA and torch was not.

    Its library does not load there, and its import fails at operators that nothing here calls.
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
