"""Reading and writing of the official logs: study_<k>/<workload>_<framework>/trial_<j>/.

Scoring reads one file of each trial, eval_measurements.csv: a row for each evaluation, in which
`score` is the seconds so far. meta_data_0.json in the same folder describes hardware and run.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from ..files import file_name, write_text
from ..reporting.legible import csv_text
from ..results import Record
from ..schema import problem
from ..workload import Metric
from .benchmark import V05, OfficialWorkload, Rules, Ruleset, counted, rules_of

EVALUATIONS = "eval_measurements.csv"
STUDY = re.compile(r"study_(\d+)")
WORKLOAD = re.compile(r"(\w+)_(jax|pytorch)")
TRIAL = re.compile(r"trial_(\d+)")
# What the official script calls the metrics of the pocket workloads, where not the same in
# small letters.
OFFICIAL_METRICS = {"log loss": "loss", "phone error rate": "error_rate"}
MINIMIZED = ("error_rate", "loss", "ppl", "wer")


def submissions(folder: Path) -> list[Path]:
    """The submissions in a folder: the folder itself, or its subfolders.

    Raises ValueError if there are none.
    """
    for candidates in ([folder], sorted(path for path in folder.glob("*") if path.is_dir())):
        found = [path for path in candidates if _numbered(path, STUDY)]
        if found:
            return found
    raise ValueError(
        f"no logs in {folder}: expected SUBMISSION/study_0/WORKLOAD_pytorch/trial_1/{EVALUATIONS}"
    )


def read(folder: Path, rules: Rules, ruleset: Ruleset = "self-tuning") -> list[Record]:
    """One record for each study and workload of a submission, named like its folder.

    Workloads that the rules do not have use the target in their own logs. Raises ValueError if
    there are no logs, or if one cannot be read.
    """
    found: list[Record] = []
    for study, study_folder in _numbered(folder, STUDY):
        for path in sorted(study_folder.iterdir()):
            match = WORKLOAD.fullmatch(path.name)
            trials = _numbered(path, TRIAL) if match else []
            if match and trials:
                name, framework = match[1], match[2]
                records = [
                    read_trial(trial, name, framework, rules, ruleset)
                    | {"method": folder.name, "study": study}
                    for _, trial in trials
                ]
                record = counted(records, rules)
                wrong = problem(record)
                if wrong is not None:
                    raise ValueError(f"{path} is not a log that can be scored: {wrong}")
                found.append(record)
    return found


def write(records: Iterable[Record], folder: Path) -> list[Record]:
    """Write folder/logs/METHOD/study_<k>/... and folder/workload_targets.json.

    `python -m scoring.score_submissions --submission_directory FOLDER/logs --workload_targets
    FOLDER/workload_targets.json` of submissions_algorithms scores them. Returns the records that
    cannot be written because they have no evaluation; the official median leaves these out.
    """
    targets: dict[str, dict[str, Any]] = {}
    left_out = []
    for record in records:
        rules = record["rules"]
        metric = official_metric(rules["metric"])
        targets[record["workload"]] = {
            "target_metric_name": metric,
            "validation_target_value": rules["target"],
            "step_hint": rules["step_hint"],
        }
        if not record["curve"]:
            left_out.append(record)
            continue
        place = f"study_{record['study']}/{file_name(record['workload'])}_pytorch/trial_1"
        path = folder / "logs" / file_name(record["method"]) / place / EVALUATIONS
        clocks = ("accumulated_submission_time", "global_step", "preemption_count", "score")
        rows = [
            (seconds, step, 0, seconds, loss, value)
            for (step, loss, value), seconds in zip(
                record["curve"], record["seconds"]["curve"], strict=True
            )
        ]
        write_text(path, csv_text([(*clocks, "train/loss", f"validation/{metric}"), *rows]))
    config = {
        "benchmark_version": "selftune",
        "base_workloads": [name for name in targets if name not in V05.held_out],
        "held_out_workloads": [name for name in targets if name in V05.held_out],
        "workloads": targets,
    }
    write_text(folder / "workload_targets.json", json.dumps(config, indent=2) + "\n")
    return left_out


def official_metric(name: str) -> str:
    return OFFICIAL_METRICS.get(name, name.lower().replace(" ", "_"))


def read_trial(
    trial: Path, name: str, framework: str, rules: Rules, ruleset: Ruleset = "self-tuning"
) -> dict[str, Any]:
    """The record of one trial's folder, without its method and its study."""
    meta = _json(trial / "meta_data_0.json")
    flags = _json(trial / "flags_0.json")
    workload = rules.all_workloads.get(name) or _logged_workload(name, meta, trial)
    metric = workload.metric
    rows = _rows(trial / EVALUATIONS)
    if rows and f"validation/{metric.name}" not in rows[0]:
        raise ValueError(f"{trial / EVALUATIONS} has no column validation/{metric.name}")
    column = f"validation/{metric.name}"
    curve = [
        [int(float(row["global_step"])), _number(row, "train/loss"), _number(row, column)]
        for row in rows
    ]
    seconds = [float(row["score"]) for row in rows]
    values = [value for _, _, value in curve if value is not None]
    reached = [value is not None and metric.reached(value, workload.target) for *_, value in curve]
    hit = reached.index(True) if any(reached) else None
    end, end_seconds = _end(trial, curve, seconds)
    outcome, reason = "hit" if hit is not None else "miss", None
    if not rows:
        outcome, reason = "failed", f"no evaluation in {EVALUATIONS}"
    elif outcome == "miss" and len(rows) == 1 and end > curve[0][0]:
        # The runner catches an error of an evaluation, and continues without its result.
        reason = f"no evaluation after step {curve[0][0]}, though trained to step {end}"
        outcome = "failed"
    return {
        "workload": name,
        "rules": rules_of(workload, rules, ruleset)
        | {"method": flags.get("submission_path", framework), "seed": meta.get("rng_seed")},
        "outcome": outcome,
        "reason": reason,
        "steps_to_target": None if hit is None else curve[hit][0],
        "eval_index": hit,
        "steps": end,
        "best_validation": metric.best(values) if values else None,
        "final_validation": curve[-1][2] if curve else None,
        "test": _number(rows[-1], f"test/{metric.name}") if rows else None,
        "curve": curve,
        "seconds": {
            "to_target": None if hit is None else seconds[hit],
            "training": end_seconds,
            "evaluation": (_number(rows[-1], "accumulated_eval_time") or 0.0) if rows else 0.0,
            "curve": seconds,
        },
        "versions": {
            "python": meta.get("python_version", "unknown"),
            "torch": framework,
            "algoperf": meta.get("git_commit_hash", "unknown")[:8],
            "device": _device(meta),
        },
    }


def _logged_workload(name: str, meta: Mapping[str, Any], trial: Path) -> OfficialWorkload:
    """A workload as the runner described it. Raises ValueError if it did not."""
    try:
        metric = meta["workload.target_metric_name"]
        return OfficialWorkload(
            name=name,
            dataset=name,
            metric=Metric(metric, higher_is_better=metric not in MINIMIZED),
            target=meta["workload.validation_target_value"],
            test_target=meta.get("workload.test_target_value"),
            runtime=meta["workload.max_allowed_runtime_sec"],
            step_hint=meta["workload.step_hint"],
            base=name,
        )
    except KeyError as missing:
        raise ValueError(
            f"{name} is not a workload of these rules, and {trial} has no meta_data_0.json with "
            f"its {missing.args[0]}; remove it or choose other --rules"
        ) from None


def _end(
    trial: Path, curve: Sequence[Sequence[Any]], seconds: Sequence[float]
) -> tuple[int, float]:
    """The last step and the seconds until it, from the last row of measurements.csv."""
    rows = _rows(trial / "measurements.csv") if (trial / "measurements.csv").is_file() else []
    if rows and rows[-1].get("score"):
        return int(float(rows[-1]["global_step"])), float(rows[-1]["score"])
    return (curve[-1][0], seconds[-1]) if curve else (0, 0.0)


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    """(number, path) of the folders whose names match, sorted by number."""
    found: dict[int, Path] = defaultdict(Path)
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and path.is_dir():
            found[int(match[1])] = path
    return sorted(found.items())


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=2):
        if None in row.values() or None in row:
            raise ValueError(f"{path}, line {number} is damaged; remove it")
    return rows


def _json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if the file does not exist."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it") from None


def _number(row: Mapping[str, str], column: str) -> float | None:
    value = float(row.get(column) or "nan")
    return value if isfinite(value) else None


def _device(meta: Mapping[str, Any]) -> str:
    if not meta:
        return "unknown"
    if "gpu_model_name" not in meta:
        return "cpu"
    return f"{meta.get('gpu_count', 1)}x {meta['gpu_model_name']}"
