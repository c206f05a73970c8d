"""ablate: comparison of schedules and averages on your own training function, seed by seed."""

from selftune.ablation.ablate import ablate as ablate
from selftune.ablation.run import Run as Run
from selftune.ablation.table import Ablation as Ablation
