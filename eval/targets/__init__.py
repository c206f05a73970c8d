"""Targets of the workloads, from their searches."""

from .protocol import LEAST_TRIALS as LEAST_TRIALS
from .protocol import NUM_SEEDS as NUM_SEEDS
from .protocol import best_trial as best_trial
from .protocol import log as log
from .protocol import refuse_other_workload as refuse_other_workload
from .protocol import searched as searched
from .protocol import target as target
