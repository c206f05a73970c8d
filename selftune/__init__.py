"""Learning-rate-free optimizers, refined schedules and weight averaging for PyTorch.

Every public name is importable from here and loaded when it is first used:

    from selftune import ScheduleFreeAdamW, attach
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftune import averaging as averaging
    from selftune import optim as optim
    from selftune import schedules as schedules
    from selftune.ablation import Ablation as Ablation
    from selftune.ablation import Run as Run
    from selftune.ablation import ablate as ablate
    from selftune.averaging import EMA as EMA
    from selftune.averaging import LAWA as LAWA
    from selftune.averaging import BlockLAWA as BlockLAWA
    from selftune.averaging import FromSchedule as FromSchedule
    from selftune.averaging import Polyak as Polyak
    from selftune.averaging import Polynomial as Polynomial
    from selftune.averaging import PowerEMA as PowerEMA
    from selftune.averaging import SnapshotStore as SnapshotStore
    from selftune.averaging import Tail as Tail
    from selftune.averaging import WeightAverage as WeightAverage
    from selftune.averaging import recalibrate_batch_norm as recalibrate_batch_norm
    from selftune.monitoring import Monitor as Monitor
    from selftune.monitoring import explain as explain
    from selftune.optim import AdamW as AdamW
    from selftune.optim import DAdaptAdaGrad as DAdaptAdaGrad
    from selftune.optim import DAdaptAdam as DAdaptAdam
    from selftune.optim import DAdaptSGD as DAdaptSGD
    from selftune.optim import DoG as DoG
    from selftune.optim import DoWG as DoWG
    from selftune.optim import LDoG as LDoG
    from selftune.optim import NAdamW as NAdamW
    from selftune.optim import Prodigy as Prodigy
    from selftune.optim import ScheduleFree as ScheduleFree
    from selftune.optim import ScheduleFreeAdamW as ScheduleFreeAdamW
    from selftune.optim import ScheduleFreePlus as ScheduleFreePlus
    from selftune.optim import ScheduleFreeProdigy as ScheduleFreeProdigy
    from selftune.optim import ScheduleFreeRAdam as ScheduleFreeRAdam
    from selftune.optim import ScheduleFreeSGD as ScheduleFreeSGD
    from selftune.optim import SelfTune as SelfTune
    from selftune.optim import attach as attach
    from selftune.optim import partitioned as partitioned
    from selftune.refinement import GradientNorms as GradientNorms
    from selftune.refinement import NormLog as NormLog
    from selftune.refinement import refine as refine
    from selftune.schedules import Schedule as Schedule
    from selftune.schedules import ScheduleLR as ScheduleLR

_PACKAGES = ("ablation", "averaging", "monitoring", "optim", "refinement", "schedules")

# Public names by the package that defines them.
_NAMES = {
    "ablation": ("Ablation", "Run", "ablate"),
    "averaging": (
        *("EMA", "LAWA", "BlockLAWA", "FromSchedule", "Polyak", "Polynomial", "PowerEMA"),
        *("SnapshotStore", "Tail", "WeightAverage", "recalibrate_batch_norm"),
    ),
    "monitoring": ("Monitor", "explain"),
    "optim": (
        *("AdamW", "DAdaptAdaGrad", "DAdaptAdam", "DAdaptSGD", "DoG", "DoWG", "LDoG", "NAdamW"),
        *("Prodigy", "ScheduleFree", "ScheduleFreeAdamW", "ScheduleFreePlus"),
        *("ScheduleFreeProdigy", "ScheduleFreeRAdam", "ScheduleFreeSGD", "SelfTune", "attach"),
        "partitioned",
    ),
    "refinement": ("GradientNorms", "NormLog", "refine"),
    "schedules": ("Schedule", "ScheduleLR"),
}
_PACKAGE_OF = {name: package for package, names in _NAMES.items() for name in names}
__all__ = [*_PACKAGE_OF]  # pyright: ignore[reportUnsupportedDunderAll]

# Names of classes in other packages, and our class that takes their place.
_OURS = {
    "AdamWScheduleFree": "ScheduleFreeAdamW",
    "SGDScheduleFree": "ScheduleFreeSGD",
    "RAdamScheduleFree": "ScheduleFreeRAdam",
    "ScheduleFreeWrapper": "ScheduleFree",
    "ProdigyPlusScheduleFree": "ScheduleFreeProdigy",
    "ProdigyScheduleFree": "ScheduleFreeProdigy",
    "DAdaptAdamW": "DAdaptAdam",
    "LayerwiseDoG": "LDoG",
    "AveragedModel": "WeightAverage",
    "ModelEma": "WeightAverage",
    "ExponentialMovingAverage": "WeightAverage",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"selftune.{name}")
    if name in _PACKAGE_OF:
        return getattr(importlib.import_module(f"selftune.{_PACKAGE_OF[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("selftune")
    if name in _OURS:
        raise ImportError(
            f"selftune calls {name} {_OURS[name]}: from selftune import {_OURS[name]}"
        )
    raise AttributeError(f"module 'selftune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({"__version__", *_PACKAGES, *_PACKAGE_OF, *globals()})
