"""Build hook: README as the long description of a package, where links have to be absolute."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# [text](target) and ![text](target) whose target lies in the repository.
RELATIVE_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def with_absolute_links(text: str, repository: str) -> str:
    """Links to the repository's pages, and pictures as raw files."""

    def absolute(link: re.Match[str]) -> str:
        bang, label, target = link.groups()
        kind = "raw" if bang else "blob"
        return f"{bang}[{label}]({repository}/{kind}/main/{target})"

    return RELATIVE_LINK.sub(absolute, text)


class LongDescription(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_absolute_links(text, metadata["urls"]["Repository"]),
        }
