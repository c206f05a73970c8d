"""report.html: one self-contained file, for light and dark screens and for paper."""

from collections.abc import Mapping, Sequence
from html import escape

from ..methods import METHODS
from ..pool import Pool
from ..strictness import Settled
from . import plots, verdict
from .contents import Tables
from .provenance import Provenance
from .svg import INK, VARIABLES, Style, styles, theme
from .tables import Cell, Table

PROFILE_CAPTION = (
    "Performance profile: the share of the workloads whose target a method reaches within τ times "
    "the steps of the fastest method. The score is the area under the line. Coinciding lines are "
    "drawn slightly apart."
)
STEPS_CAPTION = (
    "Steps to the target of every study (dots) and their median (bars). A cross beyond the dashed "
    "line, the budget, stands for studies that missed or failed."
)
CURVES_CAPTION = (
    "Validation metric over steps: every study (thin), the median over the studies (thick) until "
    "it reaches the target (dot), and where a trial failed (cross). A study that has reached its "
    "target stops there and counts in the median with its last value. The beginning of training "
    "may lie outside the panel."
)

STRICTNESS_CAPTION = (
    "The score as a function of how much harder all targets are, as a fraction of the targets. A "
    "trial ends at its target, so that right of 0 a score is known only as a range: its lower end "
    "assumes the latest possible times for this method and the earliest for the others, its upper "
    "end the reverse."
)


def page(title: str, pool: Pool, tables: Tables, provenance: Provenance, settled: Settled) -> str:
    """The whole report as HTML. tables: the same as in the other outputs."""
    look = styles(pool.entrants, list(METHODS))
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="rules">{escape(verdict.rules(pool))}</p>',
        *(f'<p class="standing">{escape(text)}</p>' for text in verdict.standings(pool)),
        *(f'<p class="note">Note: {escape(note)}.</p>' for note in pool.notes),
        html_table(tables.steps, look),
        figure(plots.performance_profile(pool.steps, look), PROFILE_CAPTION),
        figure(plots.steps_to_target(pool, look), STEPS_CAPTION),
        figure(plots.learning_curves(pool, look), CURVES_CAPTION),
        figure(plots.strictness_curves(pool, look, settled), STRICTNESS_CAPTION),
        *(html_table(table, look) for table in tables if table is not tables.steps),
        f"<h2>What this can tell</h2><p>{escape(verdict.POCKET_SCALE)}</p>",
        "<h2>How this was made</h2>",
        *(
            f'<p class="rules">{escape(what)}: {escape(value)}</p>'
            for what, value in provenance.lines(pool)
        ),
    ]
    return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A self-contained HTML page of these parts."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_css()}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def figure(svg: str, caption: str) -> str:
    """A figure that scrolls if the page is narrower."""
    return (
        f'<figure><div class="scroll">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def html_table(table: Table, look: Mapping[str, Style]) -> str:
    """A table under its title; rows that start with a name in `look` show its colour."""
    left = table.text_columns
    head = "".join(
        f'<th scope="col"{_left(n < left)}>{escape(column).replace("_", "_<wbr>")}</th>'
        for n, column in enumerate(table.columns)
    )
    rows = []
    for row in table.rows:
        name = row[0].text
        own = ' class="own"' if name in table.own else ""
        cells = [_name(name, look)] + [_cell(c, n < left) for n, c in enumerate(row[1:], start=1)]
        rows.append(f"<tr{own}>{''.join(cells)}</tr>")
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    return (
        f"<section><h2>{escape(table.title)}</h2>"
        + (f'<div class="scroll">{body}</div>' if rows else "")
        + f"{caption}</section>"
    )


def _name(name: str, look: Mapping[str, Style]) -> str:
    """The first cell of a row, with the method's colour if it is a method."""
    chip = ""
    if name in look:
        chip = f'<span class="chip" style="background:var(--c{look[name].number})"></span>'
    return f'<th scope="row" class="left">{chip}{escape(name)}</th>'


def _cell(cell: Cell, left: bool) -> str:
    kind = ' class="left"' if left else ' class="best"' if cell.best else ""
    shade = f' style="--credit:{cell.credit:.3f}"' if cell.credit else ""
    return f"<td{kind}{shade}>{escape(cell.text)}</td>"


def _left(left: bool) -> str:
    return ' class="left"' if left else ""


def _css() -> str:
    ink = VARIABLES[INK]
    return f"""
{theme()}
body {{ background: var(--page); color: {ink}; max-width: 72rem; margin: 2.5rem auto;
  padding: 0 1.2rem; font: 15px/1.5 system-ui, "Segoe UI", Arial, sans-serif; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; }}
h2 {{ font-size: 1.05rem; margin: 2.2rem 0 .5rem; }}
p {{ max-width: 48rem; margin: .5rem 0; }}
.rules, .note, .caption, figcaption {{ color: var(--muted); font-size: .87rem; }}
.standing {{ border-left: 3px solid {ink}; padding-left: .7rem; font-weight: 600; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }}
thead th {{ font-weight: 600; vertical-align: bottom; max-width: 7rem; }}
thead th {{ border-bottom: 1px solid var(--muted); }}
th, td {{ padding: .28rem .5rem; text-align: right; border-bottom: 1px solid var(--grid); }}
th[scope=row] {{ font-weight: 400; white-space: nowrap; }}
td {{ white-space: nowrap; }}
td.left {{ white-space: normal; }}
.left {{ text-align: left; }}
td {{ background: rgb(var(--shade) / calc(var(--credit, 0) * .34)); }}
.best, .own th[scope=row] {{ font-weight: 700; }}
.chip {{ display: inline-block; width: .7em; height: .7em; margin-right: .5em; }}
.chip {{ border-radius: 2px; }}
figure {{ margin: 2rem 0; }}
figure svg {{ display: block; max-width: max(100%, 34rem); height: auto; }}
svg text {{ font-family: inherit !important; }}
figcaption {{ max-width: 48rem; margin-top: .4rem; }}
"""
