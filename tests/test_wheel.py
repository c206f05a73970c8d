"""The wheel and the sdist: their contents, and training with the wheel alone."""

import email
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

TRAIN = """
import importlib.util, torch, selftune
from selftune.optim import ScheduleFreeAdamW
assert importlib.util.find_spec("eval") is None
x = torch.randn(64, 4)
layer = torch.nn.Linear(4, 1)
optimizer = ScheduleFreeAdamW(layer.parameters(), lr=0.1)
for _ in range(50):
    optimizer.zero_grad()
    loss = (layer(x) - x.sum(1, keepdim=True)).square().mean()
    loss.backward()
    optimizer.step()
print(selftune.__file__, loss.item())
"""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    return next(folder.glob("selftune-*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), str(REPOSITORY)], check=True)
    return next(folder.glob("selftune-*.whl"))


def test_the_wheel_holds_the_package_selftune_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"selftune"}
    assert "selftune/py.typed" in names


def test_the_sdist_is_the_library_without_the_benchmark(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    assert {name.parts[0] for name in names} >= {"selftune", "README.md", "LICENSE"}
    assert not {name.parts[0] for name in names} & {"eval", "tests", "benchmarks", "docs"}
    assert sdist.stat().st_size < 500_000


def test_a_wheel_can_be_built_from_the_sdist(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(tmp_path), str(sdist)], check=True)
    again = next(tmp_path.glob("selftune-*.whl"))
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_the_long_description_has_absolute_links_only(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
    targets = re.findall(r"\]\(([^)\s]+)\)", metadata.get_payload())
    assert targets
    assert [t for t in targets if not t.startswith(("https://", "#"))] == []
    assert "Repository" in " ".join(metadata.get_all("Project-URL", []))
    assert metadata["Author"] == "selftune contributors"


def test_the_wheel_trains_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    # torch and numpy are borrowed from this environment: a plain path line, so that an
    # editable install of the checkout there does not become visible here.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    result = subprocess.run(
        [python, "-I", "-c", TRAIN], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    location, loss = result.stdout.split()
    assert Path(location).is_relative_to(tmp_path)
    assert float(loss) < 0.5
