"""Every class passes the checks of benchmarks/conformance."""

from __future__ import annotations

import pytest
from contract import every_optimizer

from benchmarks.conformance import CHECKS, Make

# Some runs have a schedule that decays, which averaging methods remark on.
pytestmark = pytest.mark.filterwarnings("ignore:.* averages in the place of a decaying")


# torch.distributed.checkpoint says that there is one process only.
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@every_optimizer
@pytest.mark.parametrize("check", CHECKS)
def test_what_is_asked_of_torchs_optimizers_holds(cls, check):
    CHECKS[check](Make(cls))
