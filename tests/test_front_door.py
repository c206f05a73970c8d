"""`import selftune`: every public name from one place, loaded when it is first used."""

import subprocess
import sys

import pytest

import selftune


def test_every_public_name_of_the_packages_is_found_at_the_top():
    for package, names in selftune._NAMES.items():
        for name in names:
            assert getattr(selftune, name) is getattr(getattr(selftune, package), name)
    optimizers = {
        name for name, value in vars(selftune.optim).items() if isinstance(value, type)
    } - {"Optimizer"}
    assert optimizers <= set(dir(selftune))


def test_a_star_import_brings_every_public_name():
    found: dict[str, object] = {}
    exec("from selftune import *", found)
    assert {name for names in selftune._NAMES.values() for name in names} <= set(found)


def test_importing_selftune_loads_neither_torch_nor_a_package_of_its_own():
    code = (
        "import sys, selftune; "
        "assert 'torch' not in sys.modules; "
        "assert not [name for name in sys.modules if name.startswith('selftune.')]; "
        "selftune.optim.Prodigy; selftune.averaging"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_does_not_wait_for_what_only_extended_schedules_need():
    code = (
        "import sys; from selftune import SelfTune; from selftune.schedules import cosine; "
        "assert 'scipy.optimize' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert selftune.__version__ == version("selftune")


@pytest.mark.parametrize("name", sorted(selftune._OURS))
def test_a_name_that_another_package_uses_is_answered_with_ours(name):
    with pytest.raises(ImportError, match=f"from selftune import {selftune._OURS[name]}"):
        exec(f"from selftune import {name}")
    assert selftune._OURS[name] in dir(selftune)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        selftune.nothing  # noqa: B018
