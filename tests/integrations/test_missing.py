"""Integrations where their framework is not installed, and of what is imported for them."""

import importlib
import sys
from pathlib import Path

import pytest

import selftune.integrations

MODULES = sorted(
    path.stem
    for path in Path(selftune.integrations.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "framework")
)
INSTALLED_AS = {"ignite": "pytorch-ignite"}


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_framework_is_an_import_error_that_says_what_to_install(name, monkeypatch):
    for module in list(sys.modules):
        if module.partition(".")[0] == name or module == f"selftune.integrations.{name}":
            monkeypatch.delitem(sys.modules, module)
    for module in (name, "pytorch_lightning"):  # the older name of lightning
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {INSTALLED_AS.get(name, name)}$"):
        importlib.import_module(f"selftune.integrations.{name}")
