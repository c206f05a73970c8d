"""Provenance of a score, for citations: how, when and with which versions it was made."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from ..pool import Entrant, Pool

VERSIONS = ("python", "torch", "selftune", "device")


@dataclass(frozen=True)
class Provenance:
    """The origin of a report. command: as it was typed."""

    command: str
    date: str  # of the report, in UTC

    @staticmethod
    def now(command: str) -> "Provenance":
        return Provenance(command, datetime.now(timezone.utc).strftime("%Y-%m-%d"))

    def lines(self, pool: Pool) -> list[tuple[str, str]]:
        """(what, its value) for this run, and for the recorded baselines in its pool."""
        recorded = [entrant for entrant in pool.entrants if entrant.recorded]
        lines = [
            ("Command", self.command),
            ("Date", self.date),
            ("Studies", _counted(e.num_studies for e in pool.run)),
            ("Seed", _counted(trial["rules"]["seed"] for trial in _trials(pool.run))),
            *((name.capitalize(), versions(pool.run, name)) for name in VERSIONS),
        ]
        if recorded:
            with_what = ", ".join(f"{name} {versions(recorded, name)}" for name in VERSIONS)
            lines.append(("Recorded baselines", with_what))
        return lines


def versions(entrants: Iterable[Entrant], name: str) -> str:
    """The versions of something with which trials were made, with counts if there are several."""
    return _counted(trial["versions"].get(name, "unknown") for trial in _trials(entrants))


def _trials(entrants: Iterable[Entrant]):
    return [t for e in entrants for trials in e.trials.values() for t in trials]


def _counted(values: Iterable[object]) -> str:
    counts = Counter(map(str, values))
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({number} of them)" for value, number in sorted(counts.items()))
