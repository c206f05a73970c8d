"""The schema of a record, a line of results.jsonl, which all readers rely on."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

OUTCOMES = ("hit", "miss", "done", "failed")
MOST_STUDIES = 10_000  # reports count from study 0 to the last one
MOST_STEPS = 10**12


def problem(record: object) -> str | None:
    """The problem of a record, in a few words; None if it is valid.

    Further keys are allowed: official runs have some.
    """
    wrong = _wrong_entries(record, _RECORD)
    if wrong is not None:
        return wrong
    assert isinstance(record, Mapping)
    for name, entries in (("rules", _RULES), ("seconds", _SECONDS)):
        wrong = _wrong_entries(record[name], entries)
        if wrong is not None:
            return f"{name}: {wrong}"
    versions = record["versions"]
    if not {"torch", "device"} <= versions.keys() or not all(map(_text, versions.values())):
        return "versions: must have texts for torch and device"
    if (record["outcome"] == "hit") != (record["steps_to_target"] is not None):
        return f"steps_to_target {_shown(record['steps_to_target'])} at a {record['outcome']}"
    if (record["outcome"] == "hit") != (record["seconds"]["to_target"] is not None):
        return f"seconds: to_target {_shown(record['seconds']['to_target'])}"
    if len(record["seconds"]["curve"]) != len(record["curve"]):
        return "seconds: curve must be as long as the record's"
    wrong = _wrong_entries(record, {name: _FREE[name] for name in _FREE if name in record})
    if wrong is None and "ablated" in record:
        wrong = _wrong_ablation(record)
    return wrong


def _wrong_ablation(record: Mapping[str, Any]) -> str | None:
    wrong = _wrong_entries(record, _ABLATION)
    if wrong is not None or "averages" not in record:
        return wrong
    for name, average in record["averages"].items():
        wrong = _wrong_entries(average, _AVERAGE)
        if wrong is not None:
            return f"averages: {name}: {wrong}"
    return None


def _wrong_entries(
    entries: object, wanted: Mapping[str, tuple[Callable[[Any], bool], str]]
) -> str | None:
    if not isinstance(entries, Mapping):
        return f"must be an object, got {_shown(entries)}"
    for name, (accepted, description) in wanted.items():
        if name not in entries:
            return f"{name} is missing"
        if not accepted(entries[name]):
            return f"{name} must be {description}, got {_shown(entries[name])}"
    return None


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(value: Any, least: int = 0, most: int = MOST_STEPS) -> bool:
    return _integer(value) and least <= value <= most


def _text(value: object) -> bool:
    return isinstance(value, str)


def _name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _object(value: object) -> bool:
    return isinstance(value, Mapping)


def _or_none(accepted: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepted(value)


def _positive(value: Any) -> bool:
    return _number(value) and 0 < value <= MOST_STEPS


def _object_of(accepted: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(accepted, value.values()))


def _list_of(accepted: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(accepted, value))


def _not_negative(value: Any) -> bool:
    return _number(value) and value >= 0


def _curve(value: object, columns: int = 3) -> bool:
    return isinstance(value, list) and all(
        isinstance(point, list)
        and len(point) == columns
        and _whole(point[0])
        and all(map(_or_none(_number), point[1:]))
        for point in value
    )


def _norms(value: Any) -> bool:
    """A NormLog as `eval.observers` writes it."""
    if not isinstance(value, Mapping) or not _list_of(_whole)(value.get("steps")):
        return False
    series, length = value.get("series"), len(value["steps"])
    return (
        isinstance(series, Mapping)
        and "lrs" in series
        and all(_list_of(_or_none(_number))(s) and len(s) == length for s in series.values())
        and _or_none(_number)(value.get("weight_decay"))
        and _text(value.get("optimizer"))
        and _whole(value.get("total_steps"))
    )


_METRIC = (_or_none(_number), "a number or null")
_RECORD = {
    "workload": (_name, "a name"),
    "method": (_name, "a name"),
    "study": (lambda v: _whole(v, most=MOST_STUDIES), f"a whole number from 0 to {MOST_STUDIES}"),
    "rules": (_object, "an object"),
    "outcome": (lambda value: value in OUTCOMES, f"one of {', '.join(OUTCOMES)}"),
    "reason": (_or_none(_text), "a text or null"),
    "steps_to_target": (_or_none(lambda value: _whole(value, least=1)), "a step or null"),
    "steps": (_whole, "a number of steps"),
    "best_validation": _METRIC,
    "final_validation": _METRIC,
    "test": _METRIC,
    "curve": (_curve, "a list of [step, loss, metric]"),
    "seconds": (_object, "an object"),
    "versions": (_object, "an object"),
}
_RULES = {
    "budget": (_positive, f"a number above 0, at most {MOST_STEPS:g}"),
    "step_hint": (_positive, f"a number above 0, at most {MOST_STEPS:g}"),
    "target": _METRIC,
    "metric": (_name, "a name"),
    "higher_is_better": (lambda value: isinstance(value, bool), "true or false"),
    "method": (_text, "a text"),
    "seed": (lambda value: value is None or _integer(value), "a whole number or null"),
    "data": (_or_none(_text), "a text or null"),
}
_SECONDS = {
    "to_target": (_or_none(_not_negative), "a number from 0, or null"),
    "training": (_not_negative, "a number from 0"),
    "evaluation": (_not_negative, "a number from 0"),
    "curve": (
        lambda value: isinstance(value, list) and all(map(_not_negative, value)),
        "a list of numbers from 0",
    ),
}
_ABLATION = {
    "ablated": (_name, "a name"),
    "schedule": (_name, "a name"),
    "aim": (_number, "a number"),
}
# What only some records have
_FREE = {
    "averages": (_object, "an object"),
    "configuration": (_object_of(_number), "an object of numbers"),
    "norms": (_norms, "an object of steps and of series that are as long"),
    "objections": (_list_of(_text), "a list of texts"),
    "protocol": (
        lambda value: _object_of(_whole)(value) and value.keys() == {"configurations", "seeds"},
        "an object of two whole numbers, configurations and seeds",
    ),
    "target_from": (_text, "a text"),
}
_AVERAGE = {
    "final_validation": _METRIC,
    "test": _METRIC,
    "curve": (lambda value: _curve(value, columns=2), "a list of [step, metric]"),
}
