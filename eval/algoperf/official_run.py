"""One run of AlgoPerf's own runner: its command, environment, checkpoints and record."""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

from ..results import Key, Record
from . import logs
from .benchmark import Rules
from .generate import RULESET
from .preflight import RUNNER

# A name that AlgoPerf does not use, because Python imports the first module that it finds.
SUBMISSIONS = "selftune_submissions"
LAST_LINES = 15  # of a failed run's output
PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True)
class OfficialRun:
    """One study of one workload. It does not need torch and can be pickled."""

    workload: str
    method: str
    study: int
    seed: int  # of the runner's random numbers
    out: Path  # absolute, like all paths here
    home: Path  # the folder of AlgoPerf
    python: str  # the interpreter that has AlgoPerf
    flags: tuple[str, ...]  # the locations of the data
    gpus: int  # 0: the CPU
    steps: int | None  # the largest number of steps; None: as many as the budget allows
    checkpoints: bool  # whether an interrupted run resumes; otherwise it restarts

    @property
    def key(self) -> Key:
        return self.workload, self.method, self.study

    @property
    def name(self) -> str:
        return f"{self.workload}-{self.method}-study_{self.study}"

    @property
    def trial(self) -> Path:
        """The folder to which the runner writes."""
        study = self.out / "logs" / self.method / f"study_{self.study}"
        return study / f"{self.workload}_pytorch" / "trial_1"

    @property
    def mark(self) -> Path:
        """A file that is written when the runner has ended without an error."""
        return self.trial / "finished.json"

    @property
    def evaluated(self) -> Path:
        """A file that is written after a successful evaluation with the optimizer's state."""
        return self.out / "rehearsals" / self.method / f"{self.workload}_pytorch" / "finished.json"

    def command(self, rehearsal: bool = False) -> list[str]:
        """rehearsal: one step and one evaluation only."""
        if self.gpus:
            redirects = ",".join(f"{rank}:0" for rank in range(1, self.gpus))
            start = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1"]
            start += [f"--nproc_per_node={self.gpus}"]
            start += [f"--redirects={redirects}"] if redirects else []
        else:
            start = []
        saved = self.checkpoints and not rehearsal
        steps = 1 if rehearsal else self.steps
        name = f"logs/{self.method}/study_{self.study}"
        return [
            self.python,
            *start,
            str(self.home / RUNNER),
            "--framework=pytorch",
            f"--workload={self.workload}",
            "--tuning_ruleset=self",
            f"--submission_path={SUBMISSIONS}/{RULESET}/{self.method}/submission.py",
            *self.flags,
            f"--experiment_dir={self.out}",
            f"--experiment_name={f'rehearsals/{self.method}' if rehearsal else name}",
            "--resume_last_run=True" if saved and self.resumable() else "--overwrite=True",
            f"--save_checkpoints={saved}",
            *(["--save_intermediate_checkpoints=False"] if saved else []),
            f"--rng_seed={self.seed}",
            f"--torch_compile={bool(self.gpus)}",
            *([f"--max_global_steps={steps}"] if steps else []),
        ]

    def resumable(self) -> bool:
        """Whether there is a complete checkpoint; a runner may have been ended while writing one.

        Without one, the runner would append its evaluations to those of the lost run.
        """
        return any(is_zipfile(path) for path in self.trial.glob("checkpoint_*"))

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make the submissions and AlgoPerf importable, but not this repository."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.out), str(self.home)])}

    def record(self, rules: Rules, configuration: str, budget: float | None) -> Record:
        """The record of a run that has ended."""
        record = logs.read_trial(self.trial, self.workload, "pytorch", rules)
        record["rules"] |= {"method": configuration, "seed": self.seed, "step_budget": budget}
        return record | {"method": self.method, "study": self.study}


def carry_out(run: OfficialRun, say: Callable[[str], None] = print) -> None:
    """Carry out the run unless it is finished; first try one evaluation, if none was tried yet.

    Raises RuntimeError, with the end of its output, if it fails.
    """
    with _alone(run, run.name, say):
        if run.mark.exists():
            return
        rehearsal = f"{run.workload}-{run.method}-rehearsal"
        with _alone(run, rehearsal, say):
            if not run.evaluated.exists():
                say(f"{run.workload} {run.method}: trying one evaluation")
                _rehearse(run, rehearsal)
        say(f"{run.workload} {run.method} study {run.study}: running")
        _execute(run, run.name, rehearsal=False)
        _write_mark(run.mark)


def _rehearse(run: OfficialRun, name: str) -> None:
    """Try one step and one evaluation. Raises RuntimeError if the evaluation fails.

    The runner catches errors of evaluations, such as a lack of memory, and trains on, so that a
    run could take days without a score.
    """
    _execute(run, name, rehearsal=True)
    if not (run.evaluated.parent / "trial_1" / logs.EVALUATIONS).is_file():
        raise RuntimeError(
            f"{run.workload}: no evaluation succeeds with the state of {run.method} in memory; see "
            f"{_output(run, name)}"
        )
    _write_mark(run.evaluated)


def _execute(run: OfficialRun, name: str, rehearsal: bool) -> None:
    output = _output(run, name)
    output.parent.mkdir(parents=True, exist_ok=True)
    command = run.command(rehearsal)
    with output.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(
            command,
            cwd=run.home,
            env=run.environment,
            stdin=subprocess.DEVNULL,  # the runner may ask, and nobody would answer
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            status = process.wait()
        except BaseException:
            process.terminate()  # torchrun ends its workers
            process.wait()
            raise
    if status:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(lines[-LAST_LINES:])
        raise RuntimeError(f"{name} ended with status {status}; the end of {output}:\n{tail}")


def _output(run: OfficialRun, name: str) -> Path:
    return run.out / "output" / f"{name}.log"


def _write_mark(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"finished": True}), encoding="utf-8")
    new.rename(path)


@contextlib.contextmanager
def _alone(run: OfficialRun, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process, on any node, works in this folder."""
    path = run.out / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name} is being run by another process; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end_with_parent() -> None:
    """In the child: get a signal to end when the launcher ends, even if it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
