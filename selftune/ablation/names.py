"""Escaping of names of schedules and averages for terminals, Markdown and file names."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

LONGEST = 60  # characters of a name that are shown
LONGEST_FILE = 100  # of a name within a file name; file systems take 255 bytes


def shown(name: str) -> str:
    """A name as one line of printable text, cut to `LONGEST` characters."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


def in_markdown(name: str) -> str:
    """`shown`, escaped for Markdown and HTML."""
    text = shown(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|" else c for c in text)


def in_file_name(name: str) -> str:
    """A name as a part of a file name, without separators and characters that systems refuse."""
    safe = quote(name, safe=" ", errors="surrogatepass")
    if len(safe) <= LONGEST_FILE:
        return safe
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{safe[:LONGEST_FILE]}-{digest}"
