"""A folder that looks like a checkout of AlgoPerf v0.6 and trains nothing."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from eval.algoperf.official_run import OfficialRun

# The folder is what its Python finds first, so even torch is what we want it to be.
FILES = {
    "algoperf/__init__.py": "__version__ = 'fake'\n",
    "algoperf/workloads/__init__.py": "",
    "algoperf/workloads/workloads.py": "WORKLOADS = dict(ogbg=0, wmt=0, mnist=0)\n",
    "torch/__init__.py": """
__version__ = "2.5.1"
class cuda:
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod(lambda index: "Some GPU")
""",
    "torch/distributed/__init__.py": "",
    "torch/distributed/run.py": """
import runpy, sys
script = next(a for a in sys.argv[1:] if not a.startswith("-"))
sys.argv = sys.argv[sys.argv.index(script):]
runpy.run_path(script, run_name="__main__")
""",
    **{
        f"{name}.py": ""
        for name in (
            *("jax", "tensorflow", "absl", "clu", "flax", "pandas", "psutil", "GPUtil"),
            "tensorflow_datasets",
        )
    },
    "submission_runner.py": """
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
flags = dict(a[2:].split("=", 1) for a in sys.argv[1:])
with open(here / "calls", "a") as file:
    file.write(json.dumps(dict(flags, pid=os.getpid())) + "\\n")
metric = dict(ogbg="mean_average_precision", wmt="bleu", mnist="accuracy")[flags["workload"]]
place = pathlib.Path(flags["experiment_dir"], flags["experiment_name"])
place = place / (flags["workload"] + "_pytorch") / "trial_1"
place.mkdir(parents=True, exist_ok=True)
while (here / "slow").exists():
    time.sleep(0.1)
if (here / "broken").exists() and (here / "broken").read_text() in flags["experiment_name"]:
    sys.exit("the runner fell over")
if not (here / "no_evaluation").exists():
    rows = [(1, 1.0, 0.0), (100, 50.0, 99.0)]
    lines = [f"{step},{score},{value}" for step, score, value in rows]
    header = f"global_step,score,validation/{metric}"
    (place / "eval_measurements.csv").write_text("\\n".join([header, *lines]) + "\\n")
meta = {"gpu_model_name": "Some GPU", "gpu_count": 2, "workload.target_metric_name": metric,
        "workload.validation_target_value": 0.97, "workload.max_allowed_runtime_sec": 60,
        "workload.step_hint": 7813}
(place / "meta_data_0.json").write_text(json.dumps(meta))
""",
}
DATA = (
    "ogbg/ogbg_molpcba/0.1.3/dataset_info.json",
    "wmt/wmt14_translate/de-en/1.0.0/dataset_info.json",
    "wmt/wmt17_translate/de-en/1.0.0/dataset_info.json",
    "wmt/wmt_sentencepiece_model",
)


def write(folder: Path) -> None:
    """folder/home and folder/data."""
    for name, text in FILES.items():
        path = folder / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in DATA:
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def calls(place):
    """What the runner was called with, in order."""
    path = place / "home" / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def a_run(place, **others):
    """A run of prodigy on ogbg there, with other options."""
    run = OfficialRun(
        workload="ogbg",
        method="prodigy",
        study=0,
        seed=7,
        out=place / "out",
        home=place / "home",
        python=sys.executable,
        flags=("--data_dir=/data/ogbg",),
        gpus=8,
        steps=None,
        checkpoints=False,
    )
    return replace(run, **others)
