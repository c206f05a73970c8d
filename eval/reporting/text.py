"""A table as plain text and as Markdown."""

import textwrap
from collections.abc import Iterable

from .legible import markdown
from .tables import Cell, Table


def text_table(table: Table) -> str:
    """Columns of equal width; a workload's name stands in lines above its column."""
    heads = [[_cut(w) for w in c.split("_")] if "_" in c else [c] for c in table.columns]
    height = max(map(len, heads))
    lines = [[*[""] * (height - len(head)), *head] for head in heads]  # set on the lowest line
    rows = [list(row) for row in zip(*lines, strict=True)]
    rows += [[cell.text for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(
            text.ljust(width) if index < table.text_columns else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    aligned.insert(height, "-" * max(map(len, aligned)))
    caption = ["", textwrap.fill(table.caption, 100)] if table.caption else []
    return "\n".join([table.title, "", *aligned, *caption])


def markdown_table(table: Table) -> str:
    def line(texts: Iterable[str]) -> str:
        return f"| {' | '.join(texts)} |"

    def bold(cell: Cell) -> str:
        text = markdown(cell.text)
        return f"**{text}**" if cell.best or cell.text in table.own else text

    rule = ["---" if n < table.text_columns else "---:" for n in range(len(table.columns))]
    rows = [[bold(cell) for cell in row] for row in table.rows]
    return "\n".join([line(map(markdown, table.columns)), line(rule), *map(line, rows)])


def _cut(word: str, length: int = 9) -> str:
    return word if len(word) <= length else f"{word[: length - 1]}."
