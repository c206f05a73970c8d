"""The methods under test; each is one configuration for all workloads.

A method never sees the workload. It gets a model and the number of steps of a calibrated
baseline, and returns an optimizer, a scheduler and its evaluation weights.

Each file holds one family. A published AlgoPerf submission has the submission's own numbers; its
docstring names the source, the score and the deviations. All have two deviations in common: a
schedule over AlgoPerf's step_hint lasts 4/3 of ours (`horizon`), and batch sizes are the
workload's. Weight decay is as published. As AlgoPerf's runs are many times longer than ours, it
shrinks the weights less over a run here. The leading submissions are therefore included once
more, as *_total_decay, with AlgoPerf's weight decay over a whole run.
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
    # The order determines the colours in reports; recorded methods come first.
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

# Leading submissions with weight decay, which are also included with AlgoPerf's total decay.
_ALSO_WITH_TOTAL_DECAY = (
    *("nadamw_v05", "schedule_free_v1", "schedule_free_v2", "shampoo", "ademamix", "lion"),
    *("muon_jax", "cautious_nadamw"),
)

METHODS = {method.name: method for method in _METHODS}
METHODS |= {
    method.name: method
    for method in (with_same_total_decay(METHODS[name]) for name in _ALSO_WITH_TOTAL_DECAY)
}
