"""The list of tables in a report, in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from ..intervals import score_intervals
from ..pool import Pool
from ..step_times import StepTimes
from .scales import (
    Searches,
    calibrated_table,
    levels_table,
    oracle_table,
    pairs_table,
    workloads_table,
)
from .tables import (
    Table,
    configurations_table,
    seconds_table,
    steps_table,
    tests_table,
    troubles_table,
)


@dataclass(frozen=True)
class Tables:
    """The tables of a report, in their order."""

    steps: Table
    oracle: Table
    pairs: Table
    levels: Table
    calibrated: Table
    seconds: Table
    tests: Table
    workloads: Table
    configurations: Table
    troubles: Table

    @staticmethod
    def of(
        pool: Pool, weight_decays: Mapping[str, str], searches: Searches, times: StepTimes | None
    ) -> "Tables":
        """The tables of a pool. weight_decays: by a method's summary, how it decays weights."""
        return Tables(
            steps=steps_table(pool, intervals=score_intervals(pool)),
            oracle=oracle_table(pool, searches.steps),
            pairs=pairs_table(pool),
            levels=levels_table(pool, searches),
            calibrated=calibrated_table(pool, times),
            seconds=seconds_table(pool),
            tests=tests_table(pool),
            workloads=workloads_table(pool, searches),
            configurations=configurations_table(pool, weight_decays),
            troubles=troubles_table(pool),
        )

    def __iter__(self) -> Iterator[Table]:
        return (getattr(self, each.name) for each in fields(self))
