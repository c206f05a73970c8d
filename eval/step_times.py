"""Calibrated seconds, which do not depend on when a trial ran: steps times milliseconds per step.

The file is written by `python -m eval.calibrate`, which times all methods in turn on one machine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pool import Entrant, Pool
from .scoring import Standing, rank

NAME = "step_times.json"
BUNDLED = Path(__file__).parent / "baselines" / NAME


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds per training step, without evaluations, and where they were measured."""

    device: str
    made_with: str
    # workload -> its code -> method -> its configuration -> ms
    ms: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]

    @staticmethod
    def read(path: Path) -> "StepTimes":
        """Read a file. Raises ValueError, with the remedy, if `path` contains something else."""
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            found = StepTimes(str(content["device"]), str(content["made_with"]), content["ms"])
            for number in _leaves(found.ms, 4):
                if not 0 < float(number) < float("inf"):
                    raise ValueError(f"{number} is no time")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no step times ({type(error).__name__}: {error}); remove it and run "
                "`python -m eval.calibrate` again"
            ) from None
        return found

    def text(self) -> str:
        """The content of the file; `read` is the inverse."""
        content = {"device": self.device, "made_with": self.made_with, "ms": self.ms}
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    def of(self, pool: Pool, entrant: Entrant) -> dict[str, float]:
        """An entrant's milliseconds per step, on each workload of the pool on which it was timed.

        Only times of the same code and configuration as in the trials count.
        """
        found = {}
        for workload, rules in pool.rules.items():
            code = self.ms.get(workload, {}).get(str(rules["code"]), {})
            ms = code.get(entrant.method, {}).get(entrant.summary)
            if ms is not None:
                found[workload] = ms
        return found


def standings(pool: Pool, times: StepTimes) -> dict[str, Standing]:
    """The entrants timed on all workloads, ranked by seconds: median steps times ms per step."""
    seconds = {}
    for entrant in pool.entrants:
        ms, steps = times.of(pool, entrant), pool.steps[entrant.name].times
        if len(ms) == len(pool.workloads):
            seconds[entrant.name] = {w: steps[w] * ms[w] / 1000 for w in pool.workloads}
    return rank(seconds) if seconds else {}


def in_use(out: Path) -> StepTimes | None:
    """The times measured for the run in a folder, else the bundled ones; None without either."""
    for path in (out / NAME, BUNDLED):
        if path.exists():
            return StepTimes.read(path)
    return None


def _leaves(tree: Mapping[str, Any], depth: int) -> list[Any]:
    if depth == 1:
        return list(tree.values())
    return [leaf for inner in tree.values() for leaf in _leaves(inner, depth - 1)]
