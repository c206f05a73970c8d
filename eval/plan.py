"""The plan of a run: finding the trials that are left, checking their records, running them."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .progress import Progress
from .results import Record, Results, key
from .rules import rules_of
from .runner import run
from .trial import Trial

CROSSED = ", but schedule "  # separates a method's configuration from the schedule of --ablate


def opened(path: Path, trials: Sequence[Trial]) -> Results:
    """Open the results in `path` to add those of `trials`.

    Records of a method that was edited since are moved to another file, with a message. Raises
    ValueError if the other records were made under other rules, and what `Results` raises.
    """
    results = Results(path)
    try:
        say_what_was_cut(results)
        over = edited(trials, results.records)
        refuse_other_rules(trials, _without(over, results.records), path)
        for method, records in over.items():
            print(f"{path}: {_said_of_edited(method, records, trials)}", file=sys.stderr)
        if over:
            aside = results.set_aside(lambda record: record["method"] in over)
            print(f"the old trials are in {aside}", file=sys.stderr)
    except BaseException:
        results.close()
        raise
    return results


def complete(
    trials: Sequence[Trial], results: Results, jobs: int, retry_failed: bool = False
) -> None:
    """Run the trials that have no record yet, and append their records.

    A trial that was killed from outside leaves no record, so that the same command runs it again.
    """
    left = unfinished(trials, results.records, retry_failed)
    with Progress(len(trials), len(trials) - len(left)) as progress:

        def keep(record: Record) -> None:
            results.append(record)
            progress.ended(record)

        run(left, jobs, keep, progress.evaluated, progress.lost)


def edited(trials: Iterable[Trial], records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each method whose configuration or source has changed since."""
    now = {trial.method: trial.configuration for trial in trials}
    over: dict[str, list[Record]] = {}
    for record in records:
        method, before = record["method"], record["rules"]["method"]
        if method in now and _is_edited(before, now[method]):
            over.setdefault(method, []).append(record)
    return {method: [r for r in records if r["method"] == method] for method in over}


def _is_edited(before: str, now: str) -> bool:
    """Whether the method itself differs, and not only the schedule that --ablate gave it."""
    (before, _, crossed), (now, _, crossed_now) = before.partition(CROSSED), now.partition(CROSSED)
    return before != now and crossed == crossed_now


def _without(over: Iterable[str], records: Iterable[Record]) -> list[Record]:
    methods = set(over)
    return [record for record in records if record["method"] not in methods]


def _said_of_edited(method: str, records: Sequence[Record], trials: Iterable[Trial]) -> str:
    now = next(trial.configuration for trial in trials if trial.method == method)
    befores = dict.fromkeys(record["rules"]["method"] for record in records)
    before = next(before for before in befores if before != now)
    return (
        f"{method} was edited since its {len(records)} trials here ({before!r}, now {now!r}): "
        "they are dropped and run again"
    )


def unfinished(
    trials: Iterable[Trial], records: Iterable[Record], retry_failed: bool = False
) -> list[Trial]:
    """The trials without a record, or whose record lacks norms that are needed now.

    retry_failed: include those that failed.
    """
    found = {key(record): record for record in records}

    def is_left(trial: Trial) -> bool:
        record = found.get(trial.key)
        if record is None:
            return True
        if record["outcome"] == "failed":
            return retry_failed
        lacks_norms = trial.observers.record_norms and "norms" not in record
        return lacks_norms and record["outcome"] == "done"

    return [trial for trial in trials if is_left(trial)]


def refuse_other_rules(trials: Iterable[Trial], records: Iterable[Record], path: Path) -> None:
    """Raise ValueError if a record, read from `path`, was made under other rules than `trials`.

    Budget and seed must agree in the whole file, configurations for each method, and all other
    rules for each workload.
    """
    for_all, for_method, for_workload = {}, {}, {}
    for trial in trials:
        rules = trial.rules
        for_all = {name: rules.pop(name) for name in ("budget", "seed")}
        for_method[trial.method] = {"method": rules.pop("method")}
        for_workload[trial.workload.name] = rules
    for record in records:
        workload, method = record["workload"], record["method"]
        now = for_all | for_workload.get(workload, {}) | for_method.get(method, {})
        rules = rules_of(record)
        for name, value in now.items():
            before = rules[name]
            if before != value:
                raise ValueError(
                    f"{path} holds {method} on {workload} with {name} {before!r}, not {value!r}; "
                    f"choose another --out or remove {path}"
                )


def say_what_was_cut(results: Results) -> None:
    """Print a message if a damaged last line was cut off."""
    if results.bytes_cut:
        print(
            f"{results.path}: the last line was damaged; its {results.bytes_cut} bytes are cut "
            "off and its trial runs again",
            file=sys.stderr,
        )
