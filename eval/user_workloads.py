"""Workloads by name, or as `path/to/file.py:WORKLOAD` or `package.module:WORKLOAD`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .cli import listed, one, refuse_namesakes
from .user_code import Reference
from .workload import Workload

FUNCTIONS = ("load", "build_model", "training_batches", "loss", "evaluate")


def chosen_workloads(
    names: str, known: Mapping[str, Workload], suite: Sequence[Workload]
) -> list[Workload]:
    """The workloads of "a,b" or of "all", which is all of the suite.

    Raises ValueError if one is unknown, two share a name or the suite is empty.
    """
    if names == "all" and not suite:
        raise ValueError("this suite has no workloads yet; use --suite pocket")
    all_names = [workload.name for workload in suite]
    workloads = [
        own_workload(name, known)
        if ":" in name
        else one(name, known, "workload", ", all or your own as path/to/file.py:WORKLOAD")
        for name in listed(names, all_names)
    ]
    refuse_namesakes([workload.name for workload in workloads], "workloads", "one of them")
    return workloads


def own_workload(text: str, known: Mapping[str, Workload]) -> Workload:
    """A user's workload. Raises ValueError, with a message of one line, if it does not exist.

    Its functions are references, with which the processes of trials load them.
    """
    reference = Reference.of(text, "workload")
    workload = reference.get()
    if not isinstance(workload, Workload):
        raise ValueError(
            f"{reference.place} has no workload {reference.name!r}; write --workload "
            f"{reference.place}:NAME, where NAME is an eval.workload.Workload"
        )
    if workload.name in known:
        raise ValueError(
            f"{text} is called {workload.name!r}, as a bundled workload is; give it another name"
        )
    functions = {name: reference.attribute(name) for name in FUNCTIONS}
    return replace(workload, place=reference, **functions)
