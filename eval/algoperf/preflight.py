"""Checks that a host can run the official benchmark. Every problem is a line with its remedy."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .benchmark import V05, OfficialWorkload, Rules
from .datasets import problems as data_problems
from .submission.batch_sizes import BATCH_SIZES

REPOSITORY = "https://github.com/mlcommons/algorithmic-efficiency"
RUNNER = "submission_runner.py"
GIGABYTES = 10  # for logs
GIGABYTES_WITH_CHECKPOINTS = 40  # two of the largest: 540 million parameters in 5 words each
SECONDS_TO_IMPORT = 900
# The modules that the runner imports besides its package; the last line of the output is parsed.
PROBE = """
import json, sys
import torch, jax, tensorflow, absl, clu, flax, pandas, psutil, GPUtil, tensorflow_datasets
import {package}
from {package}.workloads.workloads import WORKLOADS
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps(dict(version=getattr({package}, "__version__", "unknown"), torch=torch.__version__,
                      gpus=gpus, workloads=list(WORKLOADS))))
"""


@dataclass(frozen=True)
class Host:
    """The AlgoPerf installation and GPUs that the interpreter for the runs finds."""

    version: str  # of AlgoPerf
    torch: str
    gpus: tuple[str, ...]
    workloads: tuple[str, ...]


def package(rules: Rules) -> str:
    """The name of AlgoPerf's package in that version."""
    return "algorithmic_efficiency" if rules is V05 else "algoperf"


def probe(home: Path, python: str, rules: Rules) -> Host:
    """Inspect AlgoPerf in `home`. Raises ValueError, in one line, if it is missing or incomplete.

    python: the interpreter that will run it.
    """
    # v0.6 has no tag; this is the commit whose budgets are those of its rules.
    name, version = package(rules), "v0.5.0" if rules is V05 else "2c90454f"
    if not (home / RUNNER).is_file() or not (home / name).is_dir():
        raise ValueError(
            f"no AlgoPerf {rules.name} in {home}: it lacks {RUNNER} or {name}/; get it by "
            f"git clone {REPOSITORY} and git checkout {version} in it, and name its folder in "
            "--algoperf-home or ALGOPERF_HOME"
        )
    done = subprocess.run(
        [python, "-c", PROBE.format(package=name)],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_IMPORT,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(
            f"AlgoPerf in {home} cannot be imported by {python}: {reason}; install it by "
            f"{python} -m pip install -e '{home}[full]', or name another --python"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Host(found["version"], found["torch"], tuple(found["gpus"]), tuple(found["workloads"]))


def problems(
    host: Host, workloads: Sequence[OfficialWorkload], data: Path, gpus: int, on_this_host: bool
) -> list[str]:
    """All problems, one line each. on_this_host: whether the runs use the GPUs of this host."""
    lines = [
        f"this AlgoPerf ({host.version}) has no workload {w.name}; leave it out of --workload"
        for w in workloads
        if w.name not in host.workloads
    ]
    if on_this_host and len(host.gpus) < gpus:
        lines.append(
            f"torch {host.torch} sees {len(host.gpus)} GPUs, --gpus asks for {gpus}; see "
            "nvidia-smi, or give --gpus (seconds on other hardware are not official)"
        )
    lines += [
        f"the batch of {w.name}, {BATCH_SIZES[w.base]}, cannot be shared by {gpus} GPUs; give "
        "--gpus 1, 2, 4 or 8"
        for w in workloads
        if gpus and BATCH_SIZES[w.base] % gpus
    ]
    return lines + data_problems([w.dataset for w in workloads], data)


def disk_problem(out: Path, checkpoints: bool) -> str | None:
    """A problem with the disk under `out`, or None."""
    needed = GIGABYTES_WITH_CHECKPOINTS if checkpoints else GIGABYTES
    existing = next(path for path in (out, *out.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free >= needed:
        return None
    return (
        f"{existing} has {free:.0f} GB left, runs need {needed}; free some or choose another --out"
    )
