"""Learning-rate schedules: immutable functions of the step.

The packages selftune.refinement and selftune.ablation build on this one; their public names can
be imported from here too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from selftune.schedules.bound import Bound as Bound
from selftune.schedules.bound import transfer_lr as transfer_lr
from selftune.schedules.extension import extend as extend
from selftune.schedules.lr_scheduler import ScheduleLR as ScheduleLR
from selftune.schedules.named import constant as constant
from selftune.schedules.named import cosine as cosine
from selftune.schedules.named import from_factors as from_factors
from selftune.schedules.named import inverse_sqrt as inverse_sqrt
from selftune.schedules.named import linear as linear
from selftune.schedules.named import one_cycle as one_cycle
from selftune.schedules.named import polynomial as polynomial
from selftune.schedules.named import power as power
from selftune.schedules.named import rex as rex
from selftune.schedules.named import step as step
from selftune.schedules.named import wsd as wsd
from selftune.schedules.schedule import Schedule as Schedule

if TYPE_CHECKING:
    from selftune.ablation import Ablation as Ablation
    from selftune.ablation import Run as Run
    from selftune.ablation import ablate as ablate
    from selftune.refinement import GradientNorms as GradientNorms
    from selftune.refinement import NormLog as NormLog
    from selftune.refinement import refine as refine

# Names from packages that import this one: they are loaded on first use, to avoid a circle.
_ELSEWHERE = {
    **dict.fromkeys(("Ablation", "Run", "ablate"), "selftune.ablation"),
    **dict.fromkeys(("GradientNorms", "NormLog", "refine"), "selftune.refinement"),
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ELSEWHERE})
