"""Methods by name, or as `path/to/file.py:function` or `package.module:function`."""

from collections.abc import Mapping

from .cli import listed, one, refuse_namesakes
from .methods import Method
from .user_code import Reference


def chosen_methods(names: str, known: Mapping[str, Method]) -> list[Method]:
    """The methods in "a,b" or "all". Raises ValueError if one is unknown or two share a name."""
    methods = [
        own_method(name)
        if ":" in name
        else one(name, known, "method", ", all or your own as path/to/file.py:function")
        for name in listed(names, known)
    ]
    refuse_namesakes([method.name for method in methods], "methods", "one of the functions")
    return methods


def own_method(text: str) -> Method:
    """A user's method. Raises ValueError, with a message of one line, if it does not exist.

    Its name is that of its function; the rules identify it by its source's sha256.
    """
    reference = Reference.of(text, "method")
    if not callable(reference.get()):
        raise ValueError(
            f"{reference.place} has no function {reference.name!r}; write --method "
            f"{reference.place}:FUNCTION, where FUNCTION(model, num_steps) returns an optimizer, a "
            "scheduler and its weights"
        )
    return Method(
        name=reference.name,
        summary=f"source with sha256 {reference.sha256[:16]}",
        weight_decay="as its source has it",
        build=reference,
    )
