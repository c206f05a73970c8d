"""A Slurm of this one machine, for as long as a test needs it: Debian's slurmctld, slurmd, munge.

Whoever starts it owns it: no root, no service, no file outside its folder. It keeps no accounts,
as small clusters do not.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "scancel", "squeue", "srun")
SECONDS = 30  # until the node answers
# Two partitions share the node: `urgent` makes jobs of `usual` leave and be queued again.
# cred_expire is also how long a job that was queued again has to wait.
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Gres=gpu:2 State=UNKNOWN
PartitionName=usual Nodes={host} Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes={host} PriorityTier=2 MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs that are not installed. Debian keeps daemons where not everybody looks."""
    return [name for name in (*DAEMONS, *COMMANDS) if _program(name) is None]


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """What the environment of its users has to have.

    Raises RuntimeError, with the daemons' last words, if the node does not answer in time.
    """
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    _write(folder)
    socket_path = folder / "munge.socket"
    commands = {
        "munged": [
            *("--foreground", "--force", "--num-threads=2", f"--socket={socket_path}"),
            *(f"--{name}-file={folder / name}" for name in ("key", "pid", "seed", "log")),
        ],
        "slurmctld": ["-D", "-c"],
        "slurmd": ["-D", "-c"],
    }
    with ExitStack() as stack:
        for name in DAEMONS:
            stack.enter_context(_daemon(name, commands[name], environment, folder))
            _wait(socket_path.exists, folder)
        _wait(lambda: "idle" in _state(environment), folder)
        yield environment


def _write(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        user=pwd.getpwuid(os.getuid()).pw_name,
        ports=_free_ports(2),
        folder=folder,
    )
    (folder / "slurm.conf").write_text(text)
    # Two GPUs, which are counted and not looked at.
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _daemon(
    name: str, arguments: list[str], environment: dict[str, str], folder: Path
) -> Iterator[None]:
    program = _program(name)
    assert program is not None
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(
            [program, *arguments], env=os.environ | environment, stdout=out, stderr=out
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _state(environment: dict[str, str]) -> str:
    command = ["sinfo", "--noheader", "--format=%T", "--partition=usual"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return done.stdout


def _wait(ready, folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            words = [path.read_text()[-1000:] for path in sorted(folder.glob("*.out"))]
            raise RuntimeError("\n".join(words))
        time.sleep(0.1)


def _program(name: str) -> str | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which(name, path=path)
