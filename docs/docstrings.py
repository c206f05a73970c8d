"""Docstrings as Markdown, for the site: lines such as `lr: multiplies d` become lists."""

import re
from typing import Any

import griffe

# The beginning of an item: one or more names, then a colon.
ITEM = re.compile(r"^([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*): (?=\S)")


def with_lists(text: str, names: set[str]) -> str:
    """Lines that begin with some of the names as items of a list; the rest as it is."""
    lines: list[str] = []
    in_list = False
    for line in text.splitlines():
        item = ITEM.match(line)
        if item and set(item[1].split(", ")) <= names:
            if lines and lines[-1] and not in_list:
                lines.append("")
            listed = ", ".join(f"`{name}`" for name in item[1].split(", "))
            lines.append(f"- {listed}: {line[item.end() :]}")
            in_list = True
            continue
        if in_list and line and not line.startswith(" "):
            lines.append("")
            in_list = False
        lines.append(line)
    return "\n".join(lines)


class Lists(griffe.Extension):
    """Changes the docstrings of classes and functions after they were read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None and isinstance(obj, griffe.Class | griffe.Function):
            names = {parameter.name for parameter in obj.parameters} | set(obj.members)
            obj.docstring.value = with_lists(obj.docstring.value, names)
