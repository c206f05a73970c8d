"""The pictures of docs/schedules.md.

    python -m benchmarks.schedule_pictures [FOLDER]

Draws the named schedules, and those refined from the logs of `benchmarks.llm_gradient_norms`, into
FOLDER, by default docs/images.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import llm_gradient_norms as study
from selftune.refinement.refine import Refined
from selftune.schedules import (
    Schedule,
    constant,
    cosine,
    inverse_sqrt,
    linear,
    one_cycle,
    polynomial,
    rex,
    step,
    wsd,
)
from selftune.schedules.plot import plot_schedules

T = 1000
FAMILIES: dict[str, dict[str, Schedule]] = {
    "all the way down": {
        "linear": linear(T),
        "cosine": cosine(T),
        "polynomial, 2": polynomial(T, 2.0),
        "rex": rex(T),
    },
    "late or never": {
        "wsd": wsd(T),
        "wsd, 1-sqrt": wsd(T, 0.2, "1-sqrt"),
        "wsd, cosine": wsd(T, 0.2, "cosine"),
        "constant": constant(T),
        "inverse_sqrt": inverse_sqrt(100, T),
    },
    "in parts": {
        "one_cycle": one_cycle(T),
        "step": step(T, {0.5: 0.3, 0.75: 0.3}),
        "cosine.with_warmup(0.1)": cosine(T).with_warmup(0.1),
        "linear.then(linear)": linear(T // 2).then(linear(T // 2)),
    },
}
LR = 1e-3
MODES = ("none", "auto")
NAMES = {"constant": "constant", "cosine": "cosine", study.LINEAR: "linear"}


def named() -> Figure:
    figure = Figure(figsize=(9.5, 2.9), layout="constrained")
    for axes, (title, schedules) in zip(figure.subplots(1, 3), FAMILIES.items(), strict=True):
        plot_schedules(list(schedules.values()), list(schedules), axes)
        axes.legend(frameon=False, fontsize=7)
        axes.set_title(title, fontsize=9)
    return figure


def refined(path: Path) -> Figure:
    """Norms of one problem under three schedules, and the schedules refined from them."""
    runs = study.load(path)
    figure = Figure(figsize=(9.5, 2.9), layout="constrained")
    norms, plain, decoupled = figure.subplots(1, 3)
    found = {mode: [runs[name, LR].refine(mode) for name in study.WHOLE] for mode in MODES}
    for one, name in zip(found["none"], study.WHOLE, strict=True):
        norms.plot(one.places, one.smoothed, label=NAMES[name])
    norms.set(xlabel="fraction of the run", xlim=(0, 1), yscale="log")
    norms.set_title("gradient norms, smoothed", fontsize=9)
    norms.legend(frameon=False, fontsize=7)
    _draw(plain, found["none"], "refined, plain")
    _draw(decoupled, found["auto"], "refined, decoupled")
    return figure


def _draw(axes: Axes, schedules: Sequence[Refined], title: str) -> None:
    plot_schedules(schedules, [NAMES[name] for name in study.WHOLE], axes)
    axes.plot([0, 1], [1, 0], color="0.6", linewidth=0.8, linestyle="--")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=7)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"schedules": named(), "refinement": refined(study.default_file())}
    for name, figure in pictures.items():
        # Equal pictures are equal files.
        with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images"))
