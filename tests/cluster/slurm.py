"""A real Slurm on one machine: a controller and two nodes of one core each, as Debian's slurm-wlm has them.

    sudo python tests/cluster/slurm.py -- COMMAND...     runs a command while it is up

Jobs look for /etc/slurm/slurm.conf, an exported SLURM_CONF does not reach them; so this needs root, and a machine that
has no configuration of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
NODES = ("n1", "n2")
PORT = 17001
READY = 60  # seconds until the nodes must have come up

TEMPLATE = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
KillWait=5
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000\n"
PARTITION = "PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP\n"


def why_not() -> str | None:
    """Why no Slurm can be started here, if so."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {', '.join(missing)}: apt install slurm-wlm munge"
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    if CONFIGURATION.exists():
        return f"{CONFIGURATION} is there: this machine has a Slurm of its own"
    return None


def configuration(folder: Path) -> str:
    """The text of slurm.conf."""
    host = socket.gethostname()
    nodes = "".join(NODE.format(name=name, host=host, port=PORT + number) for number, name in enumerate(NODES))
    return TEMPLATE.format(host=host, folder=folder) + nodes + PARTITION.format(nodes=",".join(NODES))


@contextmanager
def cluster() -> Iterator[None]:
    """Two nodes that take jobs until the block ends.

    Raises:
        FileExistsError: this machine has a Slurm of its own by now.
        RuntimeError: they did not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    (folder / "state").mkdir()
    CONFIGURATION.parent.mkdir(exist_ok=True)
    with CONFIGURATION.open("x", encoding="utf-8") as file:  # not over that of another
        file.write(configuration(folder))
    daemons: list[subprocess.Popen[bytes]] = []
    with (folder / "daemons.log").open("wb") as log:

        def start(*command: str) -> None:
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

        try:
            own_munge = _start_munge(start)
            start("slurmctld", "-D")
            for name in NODES:
                start("slurmd", "-N", name, "-D")
            _wait_for_nodes()
            yield
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                daemon.wait()
            if own_munge:
                subprocess.run(["pkill", "munged"], check=False)
            CONFIGURATION.unlink()
            shutil.rmtree(folder, ignore_errors=True)


def _start_munge(start: Callable[..., None]) -> bool:
    """Munge, unless it runs; it does so as its own user."""
    if subprocess.run(["pgrep", "munged"], capture_output=True, check=False).returncode == 0:
        return False
    runtime = Path("/run/munge")
    runtime.mkdir(exist_ok=True)
    shutil.chown(runtime, "munge", "munge")
    start("runuser", "-u", "munge", "--", "munged", "--foreground")
    return True


def _wait_for_nodes() -> None:
    end = time.monotonic() + READY
    while time.monotonic() < end:
        found = subprocess.run(["sinfo", "-h", "-o", "%D %t"], capture_output=True, text=True, check=False).stdout
        if found.split() == [str(len(NODES)), "idle"]:
            return
        time.sleep(0.5)
    raise RuntimeError(f"Slurm's nodes did not come up: {found!r}")


if __name__ == "__main__":
    reason = why_not()
    if reason:
        sys.exit(f"cannot start Slurm: {reason}")
    with cluster():
        sys.exit(subprocess.run(sys.argv[sys.argv.index("--") + 1 :], check=False).returncode)
