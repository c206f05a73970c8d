"""Real data sets, small enough to live in the repository.

MANIFEST.json has the origin, licence and sha256 of each; NOTICE.md has their notices;
`python -m eval.data.rebuild NAME` rebuilds one from its source.
"""

import hashlib
import io
import json
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent


def manifest() -> dict[str, dict[str, Any]]:
    """The origin, licence, checksum and arrays of every bundled data set, by name."""
    return json.loads((FOLDER / "MANIFEST.json").read_text())


def read(name: str) -> dict[str, np.ndarray]:
    """The arrays of one bundled data set, by name; raises the errors of `verified`."""
    with np.load(io.BytesIO(verified(name))) as arrays:
        return {key: arrays[key] for key in arrays.files}


def sha256(dataset: str | PathLike[str]) -> str:
    """The checksum of a data set: from the manifest, or computed from the user's file or folder.

    Raises FileNotFoundError if there is neither.
    """
    known = manifest()
    if dataset in known:
        return known[str(dataset)]["sha256"]
    path = Path(dataset)
    if not path.exists():
        raise FileNotFoundError(
            f"data set {str(dataset)!r} is neither a file or folder nor bundled; correct the path, "
            f"name one of {', '.join(known)}, or omit it if no data are read"
        )
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    state = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _sha256_of_files(str(path), state)


@cache
def _sha256_of_files(root: str, state: tuple[tuple[str, int, int], ...]) -> str:
    """The checksum of a file, or of the names and checksums of a folder's files.

    state: path, size in bytes and modification time of each file. While they stay the same, the
    cached checksum is returned.
    """
    digests = {path: _sha256_of_file(path) for path, _, _ in state}
    if list(digests) == [root]:
        return digests[root]
    listing = "".join(f"{digests[p]}  {Path(p).relative_to(root).as_posix()}\n" for p in digests)
    return hashlib.sha256(listing.encode()).hexdigest()


def _sha256_of_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check(dataset: str | PathLike[str]) -> None:
    """Raise FileNotFoundError or ValueError if a data set is absent or, if bundled, damaged."""
    if dataset in manifest():
        verified(str(dataset))
    else:
        sha256(dataset)


def verified(name: str) -> bytes:
    """The content of a bundled data set's file, after its sha256 is compared with the manifest.

    Raises FileNotFoundError for an absent file and ValueError for a damaged one.
    """
    path = FOLDER / f"{name}.npz"
    remedy = f"restore it with `git checkout {path}` or `python -m eval.data.rebuild {name}`"
    if not path.is_file():
        raise FileNotFoundError(f"data set {name!r} is missing at {path}; {remedy}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    expected = manifest()[name]["sha256"]
    if found != expected:
        raise ValueError(f"{path} has sha256 {found}, the manifest says {expected}; {remedy}")
    return content
