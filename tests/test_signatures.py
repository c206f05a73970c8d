"""Public names as `help` and an editor show them."""

import ast
import inspect
import re
import textwrap
import typing
from pathlib import Path

import pytest

import selftune
from selftune import optim
from selftune.optim.schedule_free import ScheduleFreeAdamW, ScheduleFreeRAdam
from selftune.refinement import decoupling, refine
from selftune.schedules import Schedule, ScheduleLR, extend, extension, lr_scheduler, shapes, wsd

refinement = inspect.getmodule(refine)

REPOSITORY = Path(__file__).parents[1]
CLASSES = [
    value
    for value in vars(optim).values()
    if isinstance(value, type) and value is not optim.Optimizer
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_help_on_an_optimizer_begins_with_an_example_that_parses(cls):
    first, example = inspect.getdoc(cls).split("\n\n")[:2]
    assert "\n" not in first
    assert example.startswith("    ")
    assert f"optimizer = {cls.__name__}(" in example
    ast.parse(textwrap.dedent(example))


@pytest.mark.parametrize("cls", [c for c in CLASSES if "ScheduleFree" in c.__name__])
def test_a_schedule_free_class_says_what_its_sequences_are(cls):
    text = inspect.getdoc(cls)
    said = re.search(r"evaluated[^.]*y[^.]*gradients", text, re.DOTALL)
    assert said or "`ScheduleFreeAdamW` says what x, y and z are" in text


@pytest.mark.parametrize(
    ("function", "name", "valid"),
    [
        (ScheduleFreeAdamW.__init__, "decay_at", ("x", "y", "z")),
        (ScheduleFreeRAdam.__init__, "decay_at", ("x", "y", "z")),
        (extend, "mode", extension.MODES),
        (ScheduleLR.__init__, "on_mismatch", lr_scheduler.ON_MISMATCH),
        (wsd, "shape", tuple(shapes.COOLDOWNS)),
        (Schedule.with_cooldown, "shape", tuple(shapes.COOLDOWNS)),
        (refine, "kind", ("auto", *refinement.KINDS)),
        (refine, "decouple", decoupling.MODES),
    ],
)
def test_an_option_with_a_few_values_names_them_in_its_type(function, name, valid):
    annotation = inspect.signature(function).parameters[name].annotation
    listed = typing.get_args(eval(annotation, {"Literal": typing.Literal}))
    assert sorted(listed) == sorted(valid)


def test_every_public_name_has_a_docstring():
    names = [name for name in dir(selftune) if not name.startswith("_")]
    assert [n for n in names if n[0].isupper() and not inspect.getdoc(getattr(selftune, n))] == []


def test_a_modules_first_line_says_what_it_holds_and_asks_no_question():
    files = [path for top in ("selftune", "eval") for path in (REPOSITORY / top).rglob("*.py")]
    assert len(files) > 100
    docstrings = {path: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in files}
    assert [str(path) for path, text in docstrings.items() if not text] == []
    asks = re.compile(r"(What|How|Who|Whom|Whose|Which|Whether)\b")
    opens = {str(path) for path, text in docstrings.items() if asks.match(text)}
    assert opens == set()
