import atexit
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for each core: each computes with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

from selftune.optim.engine.unused_average import warn_of_unused

atexit.unregister(warn_of_unused)  # most tests evaluate nothing of what they train

# Random cases are the same on every run; no time limit, as machines differ.
settings.register_profile("selftune", deadline=None, derandomize=True)
settings.load_profile("selftune")


def pytest_configure(config):
    """With `--dist loadfile`, hand out the files in their order.

    xdist would begin with those of most tests, and end with the longest ones, of few: while one
    worker is at the last of them, the others would have nothing to do.
    """
    config.option.loadscopereorder = False
