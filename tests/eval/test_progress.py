import io
import sys
from dataclasses import replace

import pytest
from late_flights import LATE_FLIGHTS
from trials import TRIAL

from eval.progress import Progress, in_words
from eval.trial import record

AIMED = replace(TRIAL, target=0.5)
MISSED = record(AIMED, [], "miss") | {"best_validation": 0.52, "steps": 120}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"outcome": "hit", "steps_to_target": 34}, "reached log loss 0.5 at step 34, 7 s"),
        (
            {"best_validation": 0.48, "final_validation": 0.7},  # must hold its target
            "missed log loss 0.5, best 0.48 in 120 steps, then 0.7, 7 s",
        ),
        ({}, "missed log loss 0.5, best 0.52 in 120 steps, 7 s"),
        ({"best_validation": None}, "missed log loss 0.5, best nan in 120 steps, 7 s"),
        ({"outcome": "done"}, "best log loss 0.52 in 120 steps, 7 s"),
        ({"outcome": "failed", "reason": "diverged at step 4"}, "failed, diverged at step 4, 7 s"),
    ],
)
def test_how_a_trial_went_fits_in_a_line(how, words):
    seconds = {"seconds": {"training": 5.0, "evaluation": 2.0}}
    assert in_words(MISSED | seconds | how) == f"late_flights adam 0: {words}"


def test_without_a_terminal_there_is_a_line_for_every_trial_and_nothing_else(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(trials=3, done=1) as progress:
        progress.evaluated(AIMED, 2, 0.6)
        progress.ended(MISSED)
    assert stream.getvalue() == f"[2/3] {in_words(MISSED)}\n"


def test_on_a_terminal_bars_show_trials_and_steps(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    other = replace(AIMED, study=1)
    with Progress(trials=3, done=1) as progress:
        for trial in (AIMED, other):
            for step in (60, 120):
                progress.evaluated(trial, step, 0.6)
                progress._steps[trial.key].refresh()
        progress.ended(MISSED)
        assert list(progress._steps) == [other.key]
    drawn = stream.getvalue()
    assert "late_flights adam 0:  50%" in drawn
    assert "late_flights adam 1: 100%" in drawn
    assert "60/120" in drawn
    assert "log loss 0.6, target 0.5" in drawn
    assert f"[2/3] {in_words(MISSED)}\n" in drawn
    assert "2/3 [" in drawn


def test_the_bar_of_a_trial_is_as_long_as_its_budget(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(trials=1, done=0) as progress:
        progress.evaluated(replace(AIMED, budget=1.5), 2, 0.6)
        assert progress._steps[AIMED.key].total == 1.5 * LATE_FLIGHTS.step_hint
