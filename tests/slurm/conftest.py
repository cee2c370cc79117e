"""A real Slurm of two nodes on one machine, each with one GPU that is none."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("n1", "n2")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=2
MinJobAge=86400
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=64000 Gres=gpu:1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


class Cluster:
    """The daemons, and Slurm's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        host, folder = socket.gethostname().partition(".")[0], self.folder
        text = CONFIGURATION.format(host=host, folder=folder, ports=free_ports(3))
        (folder / "slurm.conf").write_text(text)
        lines = [f"NodeName={node} Name=gpu File={folder}/{node}-gpu0" for node in NODES]
        (folder / "gres.conf").write_text("\n".join(lines) + "\n")
        self._keep_configuration()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        for node in NODES:  # Slurm wants a device file: one like /dev/null
            os.mknod(folder / f"{node}-gpu0", 0o020600, os.makedev(1, 3))
        names = {"socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        munge = [f"--{option}={folder / name}" for option, name in names.items()]
        self._daemon("munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge)
        wait_for(lambda: (folder / "munge.socket").exists(), 20, self.said)
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        wait_for(self._ready, 60, self.said)

    def _keep_configuration(self) -> None:
        """Snakemake's executor takes SLURM_CONF from the ``srun`` within a job: put it back."""
        srun = self.folder / "bin" / "srun"
        srun.parent.mkdir()
        configuration = self.environment["SLURM_CONF"]
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)

    def _daemon(self, name: str, *options: str) -> None:
        out = (self.folder / f"{len(self.daemons)}-{name}.out").open("w")
        command = [shutil.which(name) or name, *options]
        self.daemons.append(
            subprocess.Popen(command, env=self.environment, stdout=out, stderr=subprocess.STDOUT)
        )

    def _ready(self) -> bool:
        assert all(daemon.poll() is None for daemon in self.daemons), self.said()
        states = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T", check=False).split()
        return states == ["idle", "idle"]

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands; return what it printed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.said()
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """List every job that was ever submitted: Slurm's own keys and values."""
        lines = self.run("scontrol", "show", "job", "-o").splitlines()
        pairs = (dict(p.split("=", 1) for p in line.split() if "=" in p) for line in lines)
        return [job for job in pairs if "JobId" in job]

    def said(self) -> str:
        """Return the last lines of each daemon."""
        files = sorted(self.folder.glob("*.out"))
        return "".join(f"\n{file.name}: {file.read_text()[-1000:]}" for file in files)

    def stop(self) -> None:
        """End the jobs, the daemons and whatever they left behind."""
        self.run("scancel", "--user=root", check=False)
        with suppress(AssertionError):
            wait_for(lambda: not self.run("squeue", "-h", check=False).strip(), 20, str)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.left():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        wait_for(lambda: not self.left(), 10, lambda: f"processes {self.left()} stay")

    def left(self) -> list[int]:
        """List the processes that were started by this cluster and still run."""
        mine = f"SLURM_CONF={self.folder}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mine in environ.read_bytes():
                    found.append(int(environ.parent.name))
        return found


def free_ports(count: int) -> list[int]:
    """Find ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(true: Callable[[], bool], seconds: float, said: Callable[[], str]) -> None:
    """Wait until something is true; else fail with what was said."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not so after {seconds} s: {said()}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if "SSL_BENCH_SLURM_TEST" not in os.environ:
        pytest.skip("a real Slurm, some minutes: run by `make slurm-test` alone")
    missing = [name for name in DAEMONS if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root and Slurm; missing: {', '.join(missing) or 'root'}")
    made = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))
    made.folder.chmod(0o755)  # munge's socket must be within reach
    try:
        made.start()
        yield made
    finally:
        try:
            made.stop()
        finally:
            shutil.rmtree(made.folder)
