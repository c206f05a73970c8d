"""The official benchmark: `python -m eval.self_tuning --scale full --data-dir DIR`.

First makes all checks that need no accelerator, then lets AlgoPerf's own runner train each workload
in each study. The same command resumes an interrupted one.
"""

import os
import shlex
import shutil
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from ..cli import DONE, INTERRUPTED, SOME_FAILED, Parser, chosen, count, multiple, natural
from ..methods import METHODS, Method
from ..reporting.text import text_table
from ..results import Record, Results, key
from ..user_methods import chosen_methods
from . import preflight, projection, report, tables
from .benchmark import MNIST, V05, VERSIONS, OfficialWorkload, Rules, version
from .contest import assemble
from .datasets import DATASETS
from .generate import generate
from .launchers import run_here, run_on_cluster
from .official_run import SUBMISSIONS, OfficialRun
from .published import FIELDS

# v0.5's own runs had `--max_global_steps` of 3 x step_hint besides the budget in seconds.
STEP_BUDGETS = {V05.name: 3.0}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        rules = version(options.rules)
        workloads = chosen(options.workload, _known(rules), "workload")
        if options.workload == "all":
            workloads = list(rules.all_workloads.values())
        methods = chosen_methods(options.method, METHODS)
        if options.list:
            print(_listing(rules, workloads, options))
            return DONE
        runs = _runs(rules, workloads, methods, options)
        if options.dry_run:
            print(_plan(rules, workloads, runs, options))
            return DONE
        problems = _problems(rules, workloads, options)
        if problems:
            raise ValueError("\n".join(problems))
        for method in methods:
            generate(method, options.out.resolve() / SUBMISSIONS)
        kept = Results(options.out / "results.jsonl")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with kept:
        return _complete(rules, runs, kept, {m.name: m.summary for m in methods}, options)


def _parser() -> Parser:
    parser = Parser("eval.self_tuning", "Train and score methods on AlgoPerf's own workloads.")
    parser.add_argument("--scale", choices=("full",), default="full", help="pocket is the other")
    parser.add_argument("--workload", default="all", help="a,b or all, held-out ones included")
    parser.add_argument(
        "--method",
        default="schedule_free_adamw",
        help="a,b or all; your own as path/to/file.py:function or package.module:function",
    )
    parser.add_argument("--data-dir", type=Path, help="with a folder for each data set")
    parser.add_argument("--rules", default=V05.name, help=", ".join(VERSIONS))
    parser.add_argument("--studies", type=count, help="default: those of the rules")
    parser.add_argument(
        "--budget", type=multiple, help="most steps, in step_hints; default: 3 in v0.5, else none"
    )
    parser.add_argument("--gpus", type=natural, help="of one host; default: those of the rules")
    parser.add_argument(
        "--algoperf-home",
        type=Path,
        default=os.environ.get("ALGOPERF_HOME"),
        help="a checkout of mlcommons/algorithmic-efficiency; default: ALGOPERF_HOME",
    )
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter that AlgoPerf is installed for"
    )
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where")
    parser.add_argument("--jobs", type=count, default=8, help="with slurm: at a time")
    parser.add_argument(
        "--slurm",
        action="append",
        type=_option,
        default=[],
        metavar="OPTION=VALUE",
        help="with slurm: an option of sbatch, such as partition=gpu; may be repeated",
    )
    parser.add_argument(
        "--checkpoints", action="store_true", help="save at evaluations, and resume from them"
    )
    parser.add_argument("--seed", type=natural, default=0, help="where all seeds come from")
    parser.add_argument("--out", type=Path, default=Path("runs/full"), help="a folder")
    parser.add_argument(
        "--list", action="store_true", help="show what is present and what is missing"
    )
    parser.add_argument("--dry-run", action="store_true", help="show commands and hours")
    return parser


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"must be OPTION=VALUE, like partition=gpu, got {text!r}")
    return name, value


def _known(rules: Rules) -> dict[str, OfficialWorkload]:
    return {**rules.all_workloads, MNIST.name: MNIST}


def _runs(
    rules: Rules,
    workloads: Sequence[OfficialWorkload],
    methods: Sequence[Method],
    options: Namespace,
) -> list[OfficialRun]:
    """The runs, study by study. Raises ValueError if AlgoPerf or the data cannot be located."""
    if options.data_dir is None:
        raise ValueError("--scale full needs --data-dir DIR, where DIR/ogbg, DIR/wmt, ... are")
    budget = options.budget or STEP_BUDGETS.get(rules.name)
    return [
        OfficialRun(
            workload=workload.name,
            method=method.name,
            study=study,
            seed=_seed(workload.name, study, options.seed),
            out=options.out.resolve(),
            home=_home(options),
            python=options.python,
            flags=tuple(DATASETS[workload.dataset].flags(options.data_dir)),
            gpus=_gpus(rules, options),
            steps=round(budget * workload.step_hint) if budget else None,
            checkpoints=options.checkpoints,
        )
        for study in range(options.studies or rules.studies)
        for workload in workloads
        for method in methods
    ]


def _home(options: Namespace) -> Path:
    if not options.algoperf_home:
        raise ValueError(
            f"--scale full needs AlgoPerf: git clone {preflight.REPOSITORY} and name its folder in "
            "--algoperf-home or ALGOPERF_HOME"
        )
    return Path(options.algoperf_home).resolve()


def _gpus(rules: Rules, options: Namespace) -> int:
    return rules.gpus if options.gpus is None else options.gpus


def _seed(workload: str, study: int, seed: int) -> int:
    """Not 0, which means any seed to the runner; the same for every method."""
    sequence = np.random.SeedSequence(seed, spawn_key=(crc32(workload.encode()), study))
    return 1 + int(sequence.generate_state(1)[0]) % (2**31 - 2)


def _problems(rules: Rules, workloads: Sequence[OfficialWorkload], options: Namespace) -> list[str]:
    """Everything that is missing, one line for each."""
    here = options.launcher == "local"
    disk = preflight.disk_problem(options.out, options.checkpoints)
    try:
        found = preflight.probe(_home(options), options.python, rules)
    except ValueError as error:
        return [str(error), *([disk] if disk else [])]
    if not here and shutil.which("sbatch") is None:
        return ["there is no sbatch here: start on a login node of Slurm, or with --launcher local"]
    lines = preflight.problems(found, workloads, options.data_dir, _gpus(rules, options), here)
    return [*lines, *([disk] if disk else [])]


def _listing(rules: Rules, workloads: Sequence[OfficialWorkload], options: Namespace) -> str:
    lines = [f"rules {rules.name}: {rules.budget:g} x runtime, {rules.studies} studies, "]
    lines[0] += f"{rules.hardware}"
    for workload in workloads:
        way = "<>"[workload.metric.higher_is_better]
        lines.append(
            f"  {workload.name:34} {workload.metric.name} {way}= {workload.target:g}, "
            f"step_hint {workload.step_hint}, data in {DATASETS[workload.dataset].folder}"
        )
    if options.data_dir is None:
        return "\n".join([*lines, "--data-dir is not given: the data were not looked for"])
    try:
        missing = _problems(rules, workloads, options)
    except ValueError as error:
        missing = [str(error)]
    return "\n".join([*lines, "missing:" if missing else "nothing is missing", *missing])


def _plan(
    rules: Rules,
    workloads: Sequence[OfficialWorkload],
    runs: Sequence[OfficialRun],
    options: Namespace,
) -> str:
    """A description of the plan, with its hours by published step times."""
    done = sum(run.mark.exists() for run in runs)
    studies = options.studies or rules.studies
    lines = [
        f"{len(runs)} runs by the rules of {rules.name}, {studies} studies from seed "
        f"{options.seed}; {done} are done in {options.out}. Those of study 0:",
        *(f"$ {shlex.join(run.command())}" for run in runs if run.study == 0),
    ]
    official = [w.name for w in workloads if w.name in rules.all_workloads]
    if official:
        num_methods = len(runs) // (studies * len(workloads))
        projected = projection.project(rules, official)
        lines += ["", text_table(tables.projected(projected, studies * num_methods))]
    return "\n".join(lines)


def _complete(
    rules: Rules,
    runs: Sequence[OfficialRun],
    kept: Results,
    summaries: dict[str, str],
    options: Namespace,
) -> int:
    """Carry out the remaining runs, save their records, and report."""
    budget = options.budget or STEP_BUDGETS.get(rules.name)
    failed: list[str] = []

    def ended(run: OfficialRun, error: str | None) -> None:
        if error is None:
            kept.append(run.record(rules, summaries[run.method], budget))
        else:
            failed.append(run.name)
        so_far = f"[{len(kept.records)}/{len(runs)}] {run.name}"
        print(f"{so_far}: {error or kept.records[-1]['outcome']}", file=sys.stderr, flush=True)

    done = {key(record) for record in kept.records}
    left = [run for run in runs if run.key not in done]
    try:
        if options.launcher == "local":
            run_here(left, ended)
        else:
            run_on_cluster(
                left,
                ended,
                seconds=lambda run: _seconds(rules, run),
                at_once=options.jobs,
                options=dict(options.slurm),
            )
    except KeyboardInterrupt:
        print(
            f"interrupted: {len(kept.records)} of {len(runs)} runs are kept in {kept.path}; the "
            "same command goes on from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    if kept.records:
        _report(rules, kept.records, options.out)
    if failed:
        print(f"failed, and tried again by the same command: {', '.join(failed)}", file=sys.stderr)
    return SOME_FAILED if failed else DONE


def _seconds(rules: Rules, run: OfficialRun) -> float:
    """The most seconds that a run may take, including its evaluations."""
    if run.workload not in rules.all_workloads:
        return 2 * MNIST.runtime * rules.budget
    (projected,) = projection.project(rules, [run.workload])
    return projected.budget * (1 + projected.evaluation_share)


def _report(rules: Rules, records: Sequence[Record], out: Path) -> None:
    """Report the runs, in one pool with the published field of the same rules, if there is one."""
    known = all(record["workload"] in rules.all_workloads for record in records)
    field = next(
        (f for f in FIELDS.values() if f.rules is rules and f.ruleset == "self-tuning"), None
    )
    report.report(assemble(records, field if known else None, rules), out)
