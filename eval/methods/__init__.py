"""The methods under test: each is one configuration for all workloads.

A method never sees the workload: it is given a model and the number of steps that a calibrated
baseline would take, and answers with an optimizer, a scheduler and its evaluation weights.

A file holds one family. What was published as an AlgoPerf submission is here with the
submission's own numbers; its docstring says where they are from, what they scored, and what
differs. Differences that all have in common: a schedule over AlgoPerf's step_hint lasts 4/3 of
ours (`horizon`), and batch sizes are the workload's.
"""

from .adamw import ADAMW
from .distance import DADAPT_ADAM, PRODIGY
from .method import Build as Build
from .method import Built as Built
from .method import Method as Method
from .method import Weights as Weights
from .muon import MUON_JAX, MUON_TORCH
from .nadamw import NADAMW, NADAMW_POCKET
from .schedule_free import SCHEDULE_FREE_ADAMW, SCHEDULE_FREE_PRODIGY

METHODS = {
    method.name: method
    for method in (
        *(NADAMW, NADAMW_POCKET, ADAMW, SCHEDULE_FREE_ADAMW, SCHEDULE_FREE_PRODIGY),
        *(PRODIGY, DADAPT_ADAM),
        *(MUON_TORCH, MUON_JAX),
    )
}
