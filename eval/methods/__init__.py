"""The methods under test: each is one configuration for all workloads.

A method never sees the workload: it is given a model and the number of steps that a calibrated
baseline would take, and answers with an optimizer, a scheduler and its evaluation weights.

A file holds one family. What was published as an AlgoPerf submission is here with the
submission's own numbers; its docstring says where they are from, what they scored, and what
differs. Differences that all have in common: a schedule over AlgoPerf's step_hint lasts 4/3 of
ours (`horizon`), and batch sizes are the workload's. Weight decay is as published; AlgoPerf's
runs are many times longer than ours, so that it takes away less in all. The leading submissions
are here once more as *_total_decay, with as much in all.
"""

from . import (
    adam_variants,
    amos,
    classics,
    diloco,
    lion,
    muon,
    nadamw,
    schedule_free,
    schedule_free_prodigy_v05,
    self_tune,
    shampoo,
)
from .adamw import ADAMW
from .distance import DADAPT_ADAM, PRODIGY
from .horizon import with_same_total_decay
from .method import Build as Build
from .method import Built as Built
from .method import Method as Method
from .method import Weights as Weights

_METHODS = (
    # In the order of their colours in reports: the recorded ones first.
    nadamw.NADAMW,
    nadamw.NADAMW_POCKET,
    ADAMW,
    schedule_free.SCHEDULE_FREE_ADAMW,
    schedule_free.SCHEDULE_FREE_PRODIGY,
    self_tune.SELF_TUNE,
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
    *amos.PUBLISHED,
    *classics.PUBLISHED,
)

# Of the leading submissions that decay weights: the same once more, with as much decay over a run
# as there.
_ALSO_WITH_TOTAL_DECAY = (
    *("nadamw_v05", "schedule_free_v1", "schedule_free_v2", "shampoo", "ademamix", "lion"),
    *("muon_jax", "cautious_nadamw"),
)

METHODS = {method.name: method for method in _METHODS}
METHODS |= {
    method.name: method
    for method in (with_same_total_decay(METHODS[name]) for name in _ALSO_WITH_TOTAL_DECAY)
}
