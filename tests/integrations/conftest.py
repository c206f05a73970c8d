"""Frameworks warn of themselves and of each other: what they say is no error here."""

from pathlib import Path

import pytest

import benchmarks.frameworks  # noqa: F401  first: it lets torchvision be imported

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
