"""Ablations of recorded methods: other schedules and averages, compared study by study.

parsed by axes --> plan: trials --> records --> cells --> tables, plots --> report
"""

from .axes import Axes as Axes
from .plan import expanded as expanded
from .plan import run as run
from .report import report as report
