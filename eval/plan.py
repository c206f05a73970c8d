"""Which trials are still to run, whether they go with those that have been, and running them."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .progress import Progress
from .results import Record, Results, key
from .rules import rules_of
from .runner import run
from .trial import Trial


def opened(path: Path, trials: Sequence[Trial]) -> Results:
    """The results in `path`, ready for those of `trials`.

    Raises ValueError if they do not go together, and as `Results` does.
    """
    results = Results(path)
    try:
        say_what_was_cut(results)
        refuse_other_rules(trials, results.records, path)
    except ValueError:
        results.close()
        raise
    return results


def complete(trials: Sequence[Trial], results: Results, jobs: int) -> None:
    """Run the trials that have no record yet and append theirs."""
    left = unfinished(trials, results.records)
    with Progress(len(trials), len(trials) - len(left)) as progress:

        def keep(record: Record) -> None:
            results.append(record)
            progress.ended(record)

        run(left, jobs, keep, progress.evaluated)


def unfinished(trials: Iterable[Trial], records: Iterable[Record]) -> list[Trial]:
    """The trials without a record, or done without the norms that they are to record by now."""
    found = {key(record): record for record in records}

    def is_left(trial: Trial) -> bool:
        record = found.get(trial.key, {})
        unrecorded = record.get("outcome") == "done" and "norms" not in record
        return not record or (trial.along.record_norms and unrecorded)

    return [trial for trial in trials if is_left(trial)]


def refuse_other_rules(trials: Iterable[Trial], records: Iterable[Record], path: Path) -> None:
    """Raise ValueError if a record, read from `path`, was made under other rules than `trials`.

    Budget and seed hold for the whole file, the configuration for a method, the rest for a
    workload.
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
    """A damaged end is not silently dropped."""
    if results.bytes_cut:
        print(
            f"{results.path}: the last line was damaged; its {results.bytes_cut} bytes are cut "
            "off and its trial runs again",
            file=sys.stderr,
        )
