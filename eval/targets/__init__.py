"""Targets of the workloads, from their searches."""

from .protocol import PROTOCOL as PROTOCOL
from .protocol import Sizes as Sizes
from .protocol import best_trial as best_trial
from .protocol import log as log
from .protocol import refuse_other_workload as refuse_other_workload
from .protocol import searched as searched
from .protocol import sizes as sizes
from .protocol import target as target
