"""The methods under test: each is one configuration for all workloads.

A method never sees the workload: it is given a model and the number of steps that a calibrated
baseline would take, and answers with an optimizer, a scheduler and its evaluation weights.

A file holds one family. What was published as an AlgoPerf submission is here with the
submission's own numbers; its docstring says where they are from, what they scored, and what
differs. Differences that all have in common: a schedule over AlgoPerf's step_hint lasts 4/3 of
ours (`horizon`), and batch sizes are the workload's.
"""

from . import (
    adam_variants,
    classics,
    diloco,
    lion,
    muon,
    nadamw,
    schedule_free,
    schedule_free_prodigy_v05,
    shampoo,
)
from .adamw import ADAMW
from .distance import DADAPT_ADAM, PRODIGY
from .method import Build as Build
from .method import Built as Built
from .method import Method as Method
from .method import Weights as Weights

METHODS = {
    method.name: method
    for method in (
        # In the order of their colours in reports: the recorded ones first.
        nadamw.NADAMW,
        nadamw.NADAMW_POCKET,
        ADAMW,
        schedule_free.SCHEDULE_FREE_ADAMW,
        schedule_free.SCHEDULE_FREE_PRODIGY,
        PRODIGY,
        DADAPT_ADAM,
        *muon.PUBLISHED,
        *nadamw.PUBLISHED,
        *schedule_free.PUBLISHED,
        *schedule_free_prodigy_v05.PUBLISHED,
        *adam_variants.PUBLISHED,
        *lion.PUBLISHED,
        *diloco.PUBLISHED,
        *shampoo.PUBLISHED,
        *classics.PUBLISHED,
    )
}
