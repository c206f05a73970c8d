"""Rebuilds a bundled data set from its source: `python -m eval.data.rebuild NAME`.

Downloads the pinned packages (pip, apt), runs the recipe, and writes the archive and its
manifest entry. With --check it writes nothing and compares the rebuilt arrays with the file here.
Needs the extra `data` (`pip install -e .[data,eval]`).
"""

import argparse
import hashlib
import importlib
import json
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from ..cli import run
from . import FOLDER, manifest, read, recipes
from .recipes import Source

NAMES = sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.data.rebuild", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument(
        "--sources", type=Path, default=Path("sources"), help="where downloads are kept"
    )
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    options = parser.parse_args(arguments)
    status = 0
    for name in NAMES if options.name == "all" else [options.name]:
        recipe = importlib.import_module(f".recipes.{name}", __package__)
        for package in recipe.SOURCE.packages:
            download(package, options.sources)
        arrays = recipe.build(options.sources)
        if options.check:
            same = _same(arrays, read(name))
            print(f"{name}: {'equal to' if same else 'DIFFERS from'} the file here")
            status |= not same
        else:
            print(f"{name}: {_write(name, arrays, recipe.SOURCE):,} bytes")
    return status


def download(package: str, sources: Path) -> None:
    """Fetch "pip:NAME==VERSION" or "apt:NAME=VERSION" into `sources`; nothing is installed."""
    manager, pin = package.split(":", 1)
    name = pin.split("=")[0]
    folder = sources / name
    if folder.is_dir() and any(folder.iterdir()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if manager == "pip":
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", ".", pin]
        if name == "homeassistant":  # its wheel is marked for one newer Python only
            command += ["--only-binary=:all:", "--python-version=3.12"]
    else:
        command = ["apt-get", "download", pin]
    print(f"downloading {pin}", flush=True)
    subprocess.run(command, cwd=folder, check=True)


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and np.array_equal(one[key], other[key]) for key in one
    )


def _write(name: str, arrays: dict[str, np.ndarray], source: Source) -> int:
    """Write an .npz with LZMA compression and no time stamps, and its entry in the manifest.

    Returns its size in bytes.
    """
    path = FOLDER / f"{name}.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    content = path.read_bytes()
    entries = manifest()
    entries[name] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "packages": list(source.packages),
        "licence": source.licence,
        "origin": source.origin,
        "arrays": {key: f"{array.dtype}{list(array.shape)}" for key, array in arrays.items()},
    }
    text = json.dumps(dict(sorted(entries.items())), indent=2, ensure_ascii=False)
    (FOLDER / "MANIFEST.json").write_text(text + "\n")
    return len(content)


if __name__ == "__main__":
    run(main)
