"""Extraction of single files from downloaded packages, without installing them."""

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path


def in_wheel(folder: Path, name: str) -> bytes:
    """The content of file `name` in the only wheel of `folder`."""
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def in_sdist(folder: Path, name: str) -> bytes:
    """The content of a file in the only source distribution of `folder`.

    name: the file's path below the top directory of the archive.
    """
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return _content(archive, f"{path.name.removesuffix('.tar.gz')}/{name}")


def in_deb(folder: Path, name: str) -> bytes:
    """The content of a file in the only Debian package of `folder`.

    name: the path at which the package would install the file.
    """
    (path,) = folder.glob("*.deb")
    unpacked = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        return _content(archive, f".{name}")


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name  # None: it is a directory
    return file.read()
