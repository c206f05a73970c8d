"""`python -m benchmarks.conformance`: the table of docs/conformance.md."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import logging
import warnings
from collections.abc import Iterator

import torch

from benchmarks.conformance import CHECKS, Make
from benchmarks.conformance.problem import AroundOurs, AroundTorchs
from selftune import optim

# Package, class, options that it needs, and whether train() is called after construction.
PEERS = [
    ("torch", "optim.AdamW", {}, False),
    ("schedulefree", "AdamWScheduleFree", {}, False),
    ("schedulefree", "AdamWScheduleFree", {}, True),
    ("schedulefree", "RAdamScheduleFree", {}, True),
    ("schedulefree", "SGDScheduleFree", {}, True),
    ("prodigyopt", "Prodigy", {}, False),
    ("dadaptation", "DAdaptAdam", {}, False),
    ("dadaptation", "DAdaptSGD", {}, False),
    ("dadaptation", "DAdaptAdaGrad", {}, False),
    ("pytorch_optimizer", "ScheduleFreeAdamW", {}, False),
    ("pytorch_optimizer", "Prodigy", {}, False),
    ("prodigyplus", "ProdigyPlusScheduleFree", {}, False),
]


def subjects() -> Iterator[tuple[str, Make]]:
    for value in vars(optim).values():
        is_class = isinstance(value, type) and issubclass(value, optim.Optimizer)
        if is_class and value is not optim.Optimizer:
            yield f"selftune {value.__name__}", Make(value)
    yield "selftune ScheduleFree(torch's AdamW)", Make(AroundTorchs)
    yield "selftune ScheduleFree(our AdamW)", Make(AroundOurs)
    for package, path, options, call_train in PEERS:
        try:
            found = importlib.import_module(package)
        except ImportError:
            continue
        for name in path.split("."):
            found = getattr(found, name)
        called = ", train() called" if call_train else ""
        version = _version(package)
        yield f"{package} {version} {path.split('.')[-1]}{called}", Make(found, options, call_train)


def _version(package: str) -> str:
    distribution = {"prodigyplus": "prodigy-plus-schedule-free"}.get(package, package)
    return importlib.metadata.version(distribution)


def failures(make: Make) -> dict[str, str]:
    """The checks that a class fails, and how."""
    found = {}
    for name, check in CHECKS.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(make)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reasons", action="store_true", help="print the errors below the table")
    arguments = parser.parse_args()
    logging.disable()  # the compiler's complaints about peers
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {len(CHECKS)} checks\n")
    print("| optimizer | failures | what fails |")
    print("|---|---|---|")
    found = {}
    for name, make in subjects():
        found[name] = failures(make)
        listed = "all" if len(found[name]) == len(CHECKS) else "; ".join(found[name])
        print(f"| {name} | {len(found[name])} | {listed} |", flush=True)
    if arguments.reasons:
        for name, reasons in found.items():
            for check, reason in reasons.items():
                print(f"{name}: {check}: {reason}")


if __name__ == "__main__":
    main()
