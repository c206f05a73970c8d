"""The published leaderboards of AlgoPerf: submissions, times of all their runs, and scores.

published.csv.gz holds one row for each trial of each study of each scored submission, read from
the logs in mlcommons/submissions_algorithms (Apache-2.0; PUBLISHED.md says more).
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..cli import one
from ..results import Record
from .benchmark import VERSIONS, Rules, Ruleset, counted, rules_of

PATH = Path(__file__).with_name("published.csv.gz")
COLUMNS = (
    *("field", "submission", "framework", "workload", "study", "trial"),
    *("seconds", "steps", "eval_index"),  # to the target; empty if it was not reached
    *("best", "last_step", "last_seconds", "step_seconds", "evals", "eval_seconds"),
    "near",  # step:seconds:metric of the first evaluations within 5, 4.5, ..., 0 % of the target
)


@dataclass(frozen=True)
class Field:
    """Submissions that were scored together."""

    name: str
    title: str
    version: str
    ruleset: Ruleset
    source: str
    scores: Mapping[str, float]  # as published
    caution: str = ""  # a warning for readers

    @property
    def rules(self) -> Rules:
        return VERSIONS[self.version]

    @property
    def has_curves(self) -> bool:
        """Whether times to relaxed targets are known."""
        return self.ruleset == "self-tuning"


FIELDS = {
    field.name: field
    for field in (
        Field(
            name="published-v0.5",
            title="AlgoPerf v0.5, self-tuning ruleset",
            version="v0.5",
            ruleset="self-tuning",
            source="submissions_algorithms, previous_leaderboards/algoperf_v05/README.md",
            scores={
                "schedule_free_adamw": 0.8542,
                "baseline": 0.8194,
                "nadamw_sequential": 0.3308,
                "sinv6_75": 0.1420,
                "sinv6": 0.0903,
                "adamg": 0.0,
            },
        ),
        Field(
            name="published-v0.5-external",
            title="AlgoPerf v0.5, external tuning ruleset",
            version="v0.5",
            ruleset="external tuning",
            source="submissions_algorithms, previous_leaderboards/algoperf_v05/README.md",
            scores={
                "shampoo_submission": 0.7784,
                "schedule_free_adamw": 0.7077,
                "generalized_adam": 0.6383,
                "cyclic_lr": 0.6301,
                "nadamp": 0.5909,
                "baseline": 0.5707,
                "amos": 0.4918,
                "caspr_adaptive": 0.4722,
                "lawa_queue": 0.3699,
                "lawa_ema": 0.3384,
                "schedule_free_prodigy": 0.0,
            },
            caution=(
                "The two LAWA submissions take many optimizer steps in what the runner counts as "
                "one: scores by steps mean nothing in this field."
            ),
        ),
        Field(
            name="published-v0.6-external",
            title="AlgoPerf v0.6, external tuning ruleset",
            version="v0.6",
            ruleset="external tuning",
            source="submissions_algorithms, README.md (2025-03-24)",
            scores={"shampoo": 0.6244, "baseline": 0.4590},
        ),
        Field(
            name="published-v0.6-a100",
            title="AlgoPerf v0.6 on four A100, nine workloads, self-tuning ruleset (2026)",
            version="v0.6-a100",
            ruleset="self-tuning",
            source="submissions_algorithms, branch a100_scoring, results/scores.csv",
            scores={
                "schedule_free_adamw_v2": 0.5679,
                "ademamix": 0.5191,
                "schedule_free_adamw": 0.4669,
                "nadamw_baselinev05": 0.4506,
                "schedule_free_adamw_jax_v2": 0.4405,
                "muon_torch": 0.4231,
                "schedule_free_adamw_jax": 0.4108,
                "nadamw": 0.3844,
                "muon_torch_replicated_torch_hps": 0.3827,
                "cautious_nadamw": 0.3143,
                "muon_torch_jax_hps_lr_fix": 0.3137,
                "muon_torch_replicated_jax_hps": 0.2969,
                "muon": 0.2845,
                "lion": 0.2783,
                "nadamw_resnet": 0.1857,
                "single_worker_diloco": 0.1369,
                "single_worker_dilocov2": 0.1302,
            },
            caution=(
                "This field was scored in a branch and is on no leaderboard. In it, the PyTorch "
                "submissions stay far below the JAX ones on both ImageNet workloads, and one that "
                "reached the ViT target on V100 in 2025 does not: do not rely on these columns."
            ),
        ),
    )
}


def field(name: str) -> Field:
    """The field of a name. Raises ValueError for an unknown one."""
    return one(name, FIELDS, "published field")


def records(field: Field) -> list[Record]:
    """One record for each study of the field: that of the trial which counts.

    A study without any evaluation has no record and is left out of the median, as in the official
    scoring.
    """
    studies: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for row in _table():
        if row["field"] == field.name and row["evals"]:
            studies[row["workload"], row["submission"], row["study"]].append(_record(row, field))
    return [counted(trials, field.rules) for trials in studies.values()]


@cache
def _table() -> list[dict[str, str]]:
    with gzip.open(PATH, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _record(row: Mapping[str, str], field: Field) -> Record:
    workload = field.rules.all_workloads[row["workload"]]
    hit = bool(row["steps"])
    near = [point.split(":") for point in row["near"].split()]
    best = float(row["best"]) if row["best"] else None
    return {
        "workload": row["workload"],
        "method": row["submission"],
        "study": int(row["study"]),
        "rules": rules_of(workload, field.rules, field.ruleset) | {"method": row["framework"]},
        "outcome": "hit" if hit else "miss",
        "reason": None,
        "steps_to_target": int(row["steps"]) if hit else None,
        "eval_index": int(float(row["eval_index"])) if hit else None,
        "steps": int(row["last_step"]),
        "best_validation": best,
        "final_validation": None,
        "test": None,
        "curve": [[int(step), None, float(value)] for step, _, value in near],
        "seconds": {
            "to_target": float(row["seconds"]) if hit else None,
            "training": float(row["last_seconds"]),
            "step": float(row["step_seconds"]) if row["step_seconds"] else None,
            "evaluation": float(row["eval_seconds"]),
            "curve": [float(seconds) for _, seconds, _ in near],
        },
        "versions": {"torch": row["framework"], "device": field.rules.hardware},
    }
