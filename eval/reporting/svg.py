"""Figures as SVG whose colours come from the HTML page that contains them.

Colours become CSS variables, so that one figure serves a light and a dark page; nothing in the
text depends on when or where it was drawn. Needs matplotlib.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..pool import Entrant

# (on a white page, on a dark page). Any two can be told apart with normal, protan, deutan and
# tritan vision. The first belong to the recorded methods; the last is the colour of text.
PALETTE = (
    *(("#1f3a9e", "#8ca7f8"), ("#97290a", "#cf4f3c"), ("#45955e", "#6ee884")),
    *(("#ae55c8", "#f8c6f0"), ("#dc9c35", "#d99513"), ("#2fa9fb", "#1985a4")),
    ("#16191d", "#e9ebee"),
)
INK, MUTED, GRID = PALETTE[-1][0], "#6b7178", "#dfe2e6"
VARIABLES = {light: f"var(--c{n})" for n, (light, _) in enumerate(PALETTE)} | {
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
}

PAPER: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8.5,
    "font.size": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7.5,
}


@dataclass(frozen=True)
class Style:
    """Colour and line of an entrant, the same in all figures and tables."""

    number: int  # in PALETTE
    dash: Any = "-"
    width: float = 1.4

    @property
    def colour(self) -> str:
        return PALETTE[self.number][0]


def styles(entrants: Sequence[Entrant], known: Sequence[str]) -> dict[str, Style]:
    """A style for every entrant.

    known: methods with a fixed colour, which does not depend on the other entrants. Lines of this
    run are thick, and dashed if the method was also recorded.
    """
    size = len(PALETTE)
    given = min(len(known), size)
    order = [*range(given), *reversed(range(given, size))]  # new methods from the end
    methods = [*known, *sorted({e.method for e in entrants} - set(known))]
    places = {method: place for place, method in enumerate(methods)}
    repeated = {e.method for e in entrants if e.recorded}

    def style(entrant: Entrant) -> Style:
        cycle, place = divmod(places[entrant.method], size)
        dash = ("-", ":", "-.")[cycle % 3]
        if not entrant.recorded and entrant.method in repeated:
            dash = (0, (3.5, 1.2))
        return Style(order[place], dash, 1.4 if entrant.recorded else 2.2)

    return {entrant.name: style(entrant) for entrant in entrants}


def theme() -> str:
    """CSS rules with the values of the colour variables for light and dark pages."""

    def variables(place: int, **others: str) -> str:
        colours = {f"c{n}": pair[place] for n, pair in enumerate(PALETTE)}
        return "".join(f"--{name}:{value};" for name, value in (colours | others).items())

    light = variables(0, page="#fff", muted=MUTED, grid=GRID, shade="31 58 158")
    dark = variables(1, page="#15181c", muted="#9aa1a9", grid="#30353b", shade="140 167 248")
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"@media print {{ :root {{ {light} }} }}\n"
    )


def standalone(svg: str) -> str:
    """The element as a file of its own."""
    head, body = svg.split(">", 1)
    font = "text { font-family: system-ui, sans-serif !important; }"
    return f"{head}><style>{theme()}{font}</style>{body}\n"


def to_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an <svg> element. name: of the figure, which makes its ids unique in a page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Date and version of matplotlib
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    prefix = re.sub(r"[^A-Za-z0-9_-]", lambda character: f".{ord(character[0]):x}", name)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    head, body = text.split(">", 1)
    view = re.search(r'viewBox="0 0 ([\d.]+) [^"]*"', head)
    assert view is not None, "matplotlib writes a viewBox"
    label = f'width="{1.4 * float(view[1]):.0f}" role="img" aria-label="{escape(title)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f"{view[0]} {label}>{body.strip()}"
    )
