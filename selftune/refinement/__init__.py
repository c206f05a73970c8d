"""Refinement: schedules computed from the gradient norms of an earlier run."""

from selftune.refinement.norm_log import NormLog as NormLog
from selftune.refinement.recorder import GradientNorms as GradientNorms
from selftune.refinement.refine import refine as refine
