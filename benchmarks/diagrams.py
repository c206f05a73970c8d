"""The diagrams of docs: which optimizer to take, the layers of the code, a step's data flow.

    python -m benchmarks.diagrams [FOLDER]

Writes decision.svg, layers.svg and step.svg into FOLDER, by default docs/images.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

LINE = 15  # between two lines of text, in pixels
STYLES = {  # fill, stroke
    "plain": ("#ffffff", "#5b6770"),
    "question": ("#eef3f8", "#4c78a8"),
    "answer": ("#eaf5ea", "#4f9d55"),
    "aside": ("#f6f3ec", "#b08b3e"),
}


@dataclass(frozen=True)
class Box:
    """Lines of text in a rectangle; the first one is bold. x and y are the centre, in pixels."""

    x: float
    y: float
    width: float
    lines: Sequence[str]
    style: str = "plain"

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 14

    def svg(self) -> list[str]:
        fill, stroke = STYLES[self.style]
        left, top = self.x - self.width / 2, self.y - self.height / 2
        size = f'width="{self.width:g}" height="{self.height:g}"'
        paint = f'fill="{fill}" stroke="{stroke}"'
        parts = [f'<rect x="{left:g}" y="{top:g}" {size} rx="5" {paint}/>']
        for i, line in enumerate(self.lines):
            weight = ' font-weight="bold"' if i == 0 else ""
            y = top + 7 + LINE * (i + 0.75)
            parts.append(f'<text x="{self.x:g}" y="{y:g}"{weight}>{escape(line)}</text>')
        return parts


@dataclass(frozen=True)
class Arrow:
    """An arrow from one box to another by the shorter way; `label` is next to its middle."""

    start: Box
    end: Box
    label: str = ""

    def svg(self) -> list[str]:
        a, b = self.start, self.end
        if abs(a.y - b.y) > (a.height + b.height) / 2:  # one is above the other
            down = 1 if b.y > a.y else -1
            x1 = b.x if abs(b.x - a.x) < a.width / 2 else a.x  # straight where they overlap
            x2 = a.x if abs(b.x - a.x) < b.width / 2 else b.x
            points = (x1, a.y + down * a.height / 2), (x2, b.y - down * b.height / 2)
        else:
            right = 1 if b.x > a.x else -1
            points = (a.x + right * a.width / 2, a.y), (b.x - right * b.width / 2, b.y)
        (x1, y1), (x2, y2) = points
        parts = [
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#5b6770" '
            'marker-end="url(#tip)"/>'
        ]
        if self.label:
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            shift = (6, 4, "start") if abs(y2 - y1) > abs(x2 - x1) else (0, -6, "middle")
            parts.append(
                f'<text x="{x + shift[0]:g}" y="{y + shift[1]:g}" text-anchor="{shift[2]}" '
                f'font-style="italic">{escape(self.label)}</text>'
            )
        return parts


def drawing(title: str, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    width = max(box.x + box.width / 2 for box in boxes) + 10
    height = max(box.y + box.height / 2 for box in boxes) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" font-family="sans-serif" '
        'font-size="12" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#5b6770"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
        *(line for arrow in arrows for line in arrow.svg()),
        *(line for box in boxes for line in box.svg()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def decision() -> str:
    fits = ["Do 12 to 16 bytes a parameter fit,", "and five matrix iterations a step?"]
    first = Box(150, 45, 260, fits, "question")
    self_tune = Box(510, 45, 240, ["SelfTune", "nothing to set"], "answer")
    known = ["Is there a learning rate", "that was tuned for this model?"]
    tuned = Box(150, 145, 260, known, "question")
    length = Box(510, 145, 240, ["Is the length of the run fixed?"], "question")
    decayed = Box(860, 110, 250, ["NAdamW or AdamW", "with a decaying schedule"], "answer")
    free = Box(860, 180, 250, ["ScheduleFreeAdamW", "at that learning rate"], "answer")
    memory = Box(150, 245, 260, ["Do 16 bytes a parameter fit?"], "question")
    prodigy = Box(510, 245, 240, ["ScheduleFreeProdigy", "lr 1 with a warm-up"], "answer")
    small = Box(150, 335, 260, ["ScheduleFreeAdamW, lr .0025", "8 bytes a parameter"], "answer")
    others = [
        "Special cases",
        "sparse gradients: DAdaptAdaGrad",
        "where SGD is usual: DoG + average",
    ]
    aside = Box(860, 290, 250, others, "aside")
    arrows = [
        *(Arrow(first, self_tune, "yes"), Arrow(first, tuned, "no"), Arrow(tuned, length, "yes")),
        *(Arrow(length, decayed, "yes"), Arrow(length, free, "no"), Arrow(tuned, memory, "no")),
        *(Arrow(memory, prodigy, "yes"), Arrow(memory, small, "no")),
    ]
    boxes = [first, self_tune, tuned, length, decayed, free, memory, prodigy, small, aside]
    return drawing("Which optimizer to take", boxes, arrows)


def layers() -> str:
    monitoring = Box(120, 35, 220, ["monitoring", "an optimizer at work"])
    ablation = Box(365, 35, 220, ["ablation", "runs compared, seed by seed"])
    integrations = Box(610, 35, 220, ["integrations", "a module for each framework"])
    refinement = Box(120, 115, 220, ["refinement", "gradient norms to schedules"])
    averaging = Box(365, 115, 220, ["averaging", "weights to averages"])
    rules = Box(610, 115, 220, ["optim", "rules, one family a file"])
    schedules = Box(120, 195, 220, ["schedules", "functions of the step"])
    engine = Box(610, 195, 220, ["optim/engine", "runs a rule"])
    shared = [
        "shared",
        "step_hooks, tensor_list, swapped_parameters, dtensor, plain_numbers, ranks",
    ]
    base = Box(365, 275, 710, shared, "aside")
    harness = Box(
        850,
        115,
        180,
        ["eval", "the benchmark, which", "may import any of these;", "not in the wheel"],
    )
    arrows = [
        *(Arrow(monitoring, refinement), Arrow(ablation, refinement), Arrow(ablation, averaging)),
        *(Arrow(integrations, rules), Arrow(refinement, schedules), Arrow(schedules, base)),
        *(Arrow(averaging, base), Arrow(rules, engine), Arrow(engine, base), Arrow(harness, rules)),
    ]
    boxes = [monitoring, ablation, integrations, refinement, averaging, rules]
    boxes += [schedules, engine, base, harness]
    return drawing("What imports what: along the arrows", boxes, arrows)


def step() -> str:
    texts = [
        ("step(closure, loss)", "gradients are in p.grad; the last step's verdict is settled"),
        ("_stepping: cohorts", "parameters alike in group, device, dtype, sharding and counts"),
        ("_look_at_gradients: measure", "one sum that is finite if all gradients are, and the"),
        ("_decide: Verdict", "a step with a gradient that is not finite is skipped whole"),
        ("prepare", "learn from the sums: the step size of DoG, of ScheduleFree+"),
        ("advance", "numbers known before: lr, bias corrections, averaging weights"),
        ("_update: update(bucket)", "the rule; eager in pieces, or compiled on flat tensors"),
        ("_estimate: estimate", "learn from the rule's sums: d of Prodigy, D-Adaptation"),
    ]
    lines = [list(text) for text in texts]
    lines[2].append("rule's own sums; one all-reduce where parameters are sharded")
    boxes, y = [], 10.0
    for i, each in enumerate(lines):
        height = LINE * len(each) + 14
        style = "answer" if i == 6 else "plain"
        boxes.append(Box(230, y + height / 2, 440, each, style))
        y += height + 22
    arrows = [Arrow(a, b) for a, b in itertools.pairwise(boxes)]
    state = Box(600, boxes[6].y, 200, ["state[p]", "tensors, and counts"], "aside")
    learnt = Box(600, boxes[7].y, 200, ["param_groups", "options; learnt 0-d tensors"], "aside")
    arrows += [Arrow(boxes[6], state), Arrow(boxes[7], learnt)]
    return drawing("A step of an optimizer", [*boxes, state, learnt], arrows)


DIAGRAMS = {"decision": decision, "layers": layers, "step": step}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DIAGRAMS.items():
        (folder / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images"))
