"""Learning-rate-free and Schedule-Free optimizers, and their baselines AdamW and NAdamW."""

from selftune.optim.adamw import AdamW as AdamW
from selftune.optim.adamw import NAdamW as NAdamW
from selftune.optim.attachment import attach as attach
from selftune.optim.d_adapt_adagrad import DAdaptAdaGrad as DAdaptAdaGrad
from selftune.optim.d_adaptation import DAdaptAdam as DAdaptAdam
from selftune.optim.d_adaptation import DAdaptSGD as DAdaptSGD
from selftune.optim.dog import DoG as DoG
from selftune.optim.dog import DoWG as DoWG
from selftune.optim.dog import LDoG as LDoG
from selftune.optim.optimizer import Optimizer as Optimizer
from selftune.optim.partition import partitioned as partitioned
from selftune.optim.prodigy import Prodigy as Prodigy
from selftune.optim.schedule_free import ScheduleFreeAdamW as ScheduleFreeAdamW
from selftune.optim.schedule_free import ScheduleFreeRAdam as ScheduleFreeRAdam
from selftune.optim.schedule_free import ScheduleFreeSGD as ScheduleFreeSGD
from selftune.optim.schedule_free_plus import ScheduleFreePlus as ScheduleFreePlus
from selftune.optim.schedule_free_prodigy import ScheduleFreeProdigy as ScheduleFreeProdigy
from selftune.optim.schedule_free_wrapper import ScheduleFree as ScheduleFree
from selftune.optim.self_tune import SelfTune as SelfTune

# Names that the schedulefree package and others use. Trainers such as sd-scripts call train() and
# eval() only on optimizers whose name ends in "ScheduleFree".
ALIASES = {
    "AdamWScheduleFree": "ScheduleFreeAdamW",
    "SGDScheduleFree": "ScheduleFreeSGD",
    "RAdamScheduleFree": "ScheduleFreeRAdam",
    "ProdigyScheduleFree": "ScheduleFreeProdigy",
}


def __getattr__(name: str) -> type[Optimizer]:
    if name in ALIASES:
        return globals()[ALIASES[name]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
