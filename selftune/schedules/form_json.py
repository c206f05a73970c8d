"""Conversion of forms to and from JSON: an object with the class's name and its fields."""

from __future__ import annotations

from dataclasses import fields
from numbers import Real
from typing import Any

from selftune.plain_numbers import plain_number
from selftune.schedules import shapes
from selftune.schedules.form import Beginning, Form, Product, Sequence, Table, Warmup

KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Warmup, Product, Sequence, Beginning, Table),
        *(shapes.Constant, shapes.InverseSqrt, shapes.Power),
        *(shapes.Linear, shapes.Cosine, shapes.Polynomial, shapes.Rex),
        *(shapes.Trapezoid, shapes.OneCycle, shapes.Steps),
    )
}


def form_to_dict(form: Form) -> dict[str, Any]:
    kind = type(form)
    values = {f.name: getattr(form, f.name) for f in fields(KINDS[kind.__name__])}
    return {"kind": kind.__name__} | {
        name: form_to_dict(value) if isinstance(value, Form) else _lists(value)
        for name, value in values.items()
    }


def form_from_dict(data: Any) -> Form:
    """The inverse of `form_to_dict`. Raises ValueError for anything else."""
    if not isinstance(data, dict) or data.get("kind") not in list(KINDS):
        raise ValueError(f"not a schedule: a form's kind is one of {', '.join(KINDS)}, got {data}")
    kind = KINDS[data["kind"]]
    values = {name: value for name, value in data.items() if name != "kind"}
    if set(values) != {f.name for f in fields(kind)}:
        raise ValueError(f"not a schedule: {data['kind']} with the fields {', '.join(values)}")
    for f in fields(kind):
        if isinstance(values[f.name], dict) != (f.type == "Form"):
            raise ValueError(f"not a schedule: {f.name} of {data['kind']} is no {f.type}")
    try:
        return kind(
            **{
                name: form_from_dict(value) if isinstance(value, dict) else _tuples(value)
                for name, value in values.items()
            }
        )
    except TypeError as error:
        raise ValueError(f"not a schedule: {data['kind']}: {error}") from None


def _lists(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_lists(item) for item in value]
    return plain_number(value) if isinstance(value, Real) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
