"""Progress of a run: bars on a terminal, elsewhere a line for every trial that ends."""

import sys
from math import nan
from types import TracebackType

from tqdm import tqdm

from .overfitting import lost_again
from .results import Key, Record, key
from .trial import Trial


class Progress:
    """One bar for the trials and one for the steps of each that is running."""

    def __init__(self, trials: int, done: int):
        self._trials = tqdm(total=trials, initial=done, unit="trial", disable=None)
        self._steps: dict[Key, tqdm] = {}
        self._ended = done

    def evaluated(self, trial: Trial, step: int, metric: float) -> None:
        if trial.key not in self._steps:
            workload, method, study = trial.key
            self._steps[trial.key] = tqdm(
                total=trial.steps,
                desc=f"{workload} {method} {study}",
                unit="step",
                leave=False,
                disable=None,
            )
        bar = self._steps[trial.key]
        goal = "" if trial.target is None else f", target {trial.target:.5g}"
        bar.set_postfix_str(f"{trial.workload.metric.name} {metric:.5g}{goal}", refresh=False)
        bar.update(step - bar.n)

    def ended(self, record: Record) -> None:
        if key(record) in self._steps:
            self._steps.pop(key(record)).close()
        self._ended += 1
        self._trials.write(f"[{self._ended}/{self._trials.total}] {in_words(record)}", sys.stderr)
        self._trials.update()

    def lost(self, trial: Trial, reason: str, again: bool) -> None:
        """Report that a trial was ended from outside, and whether it runs again."""
        if trial.key in self._steps:
            self._steps.pop(trial.key).close()
        what = "it runs again" if again else "not recorded; the same command runs it again"
        name = " ".join(map(str, trial.key))
        self._trials.write(f"{name}: {reason}; this is not a result: {what}", sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for bar in self._steps.values():
            bar.close()
        self._trials.close()


def in_words(record: Record) -> str:
    """The result of a trial in one line."""
    metric, target = record["rules"]["metric"], record["rules"]["target"]
    seconds = record["seconds"]["training"] + record["seconds"]["evaluation"]
    best = nan if record["best_validation"] is None else record["best_validation"]
    match record["outcome"]:
        case "hit":
            course = f"reached {metric} {target:.5g} at step {record['steps_to_target']}"
        case "miss":
            course = f"missed {metric} {target:.5g}, best {best:.5g} in {record['steps']} steps"
            course += f", then {record['final_validation']:.5g}" if lost_again(record) else ""
        case "done":
            course = f"best {metric} {best:.5g} in {record['steps']} steps"
        case _:
            course = f"failed, {record['reason']}"
    return f"{record['workload']} {record['method']} {record['study']}: {course}, {seconds:.0f} s"
