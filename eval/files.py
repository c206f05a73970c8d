"""Atomic writing of files, and safe file names from any text."""

import os
import re
from pathlib import Path
from urllib.parse import quote
from zlib import crc32

LONGEST_NAME = 100  # characters; file systems take 255 bytes
# Characters that are kept in file names. All others, such as separators, are escaped.
PLAIN = " ()+,-.=@_"


def write_text(path: Path, text: str) -> None:
    """Write atomically: to a temporary file in the same folder, which is then renamed to `path`.

    Raises OSError, and leaves nothing behind, if that fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def file_name(text: str) -> str:
    """A name for a file or folder from a text: the text itself if that is safe.

    The name never points outside its folder, and different texts have different names.
    """
    name = quote(text.encode("utf-8", "surrogatepass"), safe=PLAIN)
    name = re.sub(r"^[. ]|[. ]$", lambda end: f"%{ord(end[0]):02X}", name)
    if len(name) > LONGEST_NAME:
        number = crc32(text.encode("utf-8", "surrogatepass"))
        name = f"{name[: LONGEST_NAME - 9]}~{number:08x}"
    return name
