"""A real SLURM with one node, from Debian's packages, which keeps all of its files in one directory."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ports import free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")

_CONFIG = """\
ClusterName=evoconn
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={munge_socket}
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
BatchStartTimeout=1
MessageTimeout=5
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,sched_min_interval=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:{cpus} State=UNKNOWN
PartitionName=long Nodes={host} Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes={host} PriorityTier=10 PreemptMode=OFF
"""


def missing_programs() -> list[str]:
    """Returns which of SLURM's programs are not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [program for program in PROGRAMS if shutil.which(program, path=path) is None]


class SlurmCluster:
    """One node that runs up to `cpus` jobs with one core each.

    The partition `urgent` preempts `long`, a minute after a warning, as on many clusters.

    Attributes:
        environment: Environment variables with which processes find the cluster.
    """

    def __init__(self, folder: Path, cpus: int = 2):
        self.folder = folder
        self._daemons: dict[str, subprocess.Popen] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        controller_port, node_port = free_ports(2)
        settings = _CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            folder=folder,
            cpus=cpus,
            munge_socket=folder / "munge.socket",
            controller_port=controller_port,
            node_port=node_port,
        )
        (folder / "slurm.conf").write_text(settings)
        gpus = "".join(f"Name=gpu File=/dev/{name}\n" for name in ("null", "zero", "full", "random")[:cpus])
        (folder / "gres.conf").write_text(gpus)
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def start(self) -> None:
        """Starts the daemons that are not running; they find the jobs of an earlier start."""
        if "munged" not in self._daemons:
            files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
            self._start("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *files)
            wait_until(lambda: (self.folder / "munge.socket").exists(), "munge listens")
        for daemon in ("slurmctld", "slurmd"):
            if daemon not in self._daemons:
                self._start(daemon, "-D")
        wait_until(self._is_up, "the node is up")

    def kill(self, daemon: str) -> None:
        """Ends a daemon as if the machine had killed it."""
        process = self._daemons.pop(daemon)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        if "slurmctld" in self._daemons and "slurmd" in self._daemons:
            self.run("scancel", "--signal=KILL", "--full", f"--user={getpass.getuser()}")
            self.run("scancel", f"--user={getpass.getuser()}")
        for daemon in ("slurmd", "slurmctld", "munged"):
            if process := self._daemons.pop(daemon, None):
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def run(self, *command: str) -> str:
        """Returns the output of one of SLURM's commands."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def tasks(self) -> dict[str, str]:
        """Returns the state of every task of an array in the queue, by its id such as `12_0`."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%F_%K %T").splitlines()
        return {name: state for name, state in map(str.split, lines) if not name.endswith("N/A")}

    def start_soon(self, task: str) -> None:
        """Starts a requeued task without the two minutes that SLURM lets it wait.

        Three seconds from now, since SLURM refuses it in the second in which the earlier attempt ended.
        """
        self.run("scontrol", "update", f"JobId={task}", "StartTime=now+3")

    def save_state(self, task: str) -> None:
        """Waits until the controller, which writes every few seconds, has saved the state of a task."""
        mark = f"written-{secrets.token_hex(8)}"
        self.run("scontrol", "update", f"JobId={task}", f"Comment={mark}")
        file = self.folder / "state" / "job_state"
        wait_until(lambda: file.exists() and mark.encode() in file.read_bytes(), "the controller has saved")

    def look_at_nodes(self) -> None:
        """Makes the controller check now what runs on its nodes, which it does every few minutes."""
        self.run("scontrol", "reconfigure")

    def job_processes(self) -> list[int]:
        """Returns the ids of the processes of all jobs, and of their supervisors."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._is_of_a_job(path)]

    def _is_of_a_job(self, process: Path) -> bool:
        try:
            if (process / "comm").read_text().startswith("slurmstepd"):
                return str(self.folder).encode() in (process / "environ").read_bytes()
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return False
        of_this_cluster = f"SLURM_CONF={self.folder}/slurm.conf".encode() in environment
        return of_this_cluster and any(name.startswith(b"SLURM_JOB_ID=") for name in environment)

    def _is_up(self) -> bool:
        return self.run("sinfo", "--noheader", "--partition=long", "--format=%T").strip() in (
            "idle",
            "mixed",
            "allocated",
        )

    def _start(self, daemon: str, *options: str) -> None:
        program = shutil.which(daemon, path=self.environment["PATH"])
        assert program is not None, daemon
        with (self.folder / f"{daemon}.log").open("ab") as log:
            self._daemons[daemon] = subprocess.Popen(
                [program, *options], env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 60.0, every: float = 0.1) -> None:
    """Waits until `is_so` returns true, for events that cannot be waited for otherwise."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not so after {seconds:.0f} s")
        threading.Event().wait(every)
