"""What tests hold of a real Slurm cluster: its environment, its queue, its nodes to kill and to bring back."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.daemons import HERE, NODES, Daemons, missing, send

MAX_ARRAY_SIZE = 1001
LEAKS = ("SLURM_", "SLURMD_", "SBATCH_", "SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SINFO_", "PMI_", "PMIX_")


def missing_for_tests() -> str | None:
    """What a cluster needs and this machine lacks, and how to get it; None where nothing is missing."""
    if os.geteuid():
        return "a Slurm cluster of one's own needs root"
    packages = missing()
    if packages:
        return f"no Slurm here: {', '.join(packages)} missing; {os.path.relpath(HERE / 'daemons.py')} install"
    return None


def end_abandoned(clusters: Path) -> None:
    """Ends clusters whose folder has the number of a process that is gone: a test process that was killed."""
    for folder in clusters.iterdir():
        if not Path(f"/proc/{folder.name}").exists():
            Daemons(folder).end()
            shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """Three nodes n1 n2 n3 of 4 CPUs, 4000 MB and 2 false GPUs each, all on this machine, so they share its hostname.

    Partitions: `low` (default; requeued when preempted, after 5 s of grace that begin with the job's own --signal),
    `spot` (cancelled when preempted, no grace) and `high`, which preempts both.
    """

    nodes = NODES

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons = Daemons(folder)

    # Start and stop

    def start(self, accounting: bool = True, max_array_size: int = MAX_ARRAY_SIZE) -> None:
        """Starts what does not run; a controller whose configuration changes is started again and keeps its jobs."""
        self.daemons.start(accounting, max_array_size)

    def stop(self) -> None:
        self.daemons.end()

    @contextmanager
    def without_accounting(self) -> Iterator[None]:
        """sacct fails as on a site that keeps no accounts. Jobs that end meanwhile are in no record afterwards."""
        self.start(accounting=False)
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def max_array_size(self, size: int) -> Iterator[None]:
        """The greatest index of an array is one less than `size`."""
        self.start(max_array_size=size)
        try:
            yield
        finally:
            self.start()

    # Commands

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with this cluster in it and no other allocation's variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(LEAKS)}
        return kept | {"SLURM_CONF": str(self.folder / "etc/slurm.conf")}

    def ask(self, *command: str, **options) -> subprocess.CompletedProcess:
        """Runs a command whatever its exit code; `input`, `cwd` and the like are passed on to subprocess.run."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, **options)

    def run(self, *command: str, **options) -> str:
        """Standard output. Raises RuntimeError with what the command said when it fails."""
        done = self.ask(*command, **options)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    # Jobs

    def submit(self, script: str, *options: str, cwd: Path) -> str:
        """Submits a shell script by hand, log in `cwd`; gives the job's id."""
        text = "\n".join(["#!/bin/bash", script, ""])
        return self.run("sbatch", "--parsable", *options, input=text, cwd=cwd)

    def states(self, job: str) -> dict[str, str]:
        """What the controller says of a job, an array's elements one by one; for five minutes after the end too."""
        answer = self.ask("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i %T")
        return dict(line.split() for line in answer.stdout.splitlines())

    def records(self, job: str, fields: str = "JobID,State,NodeList,ExitCode") -> list[list[str]]:
        """What accounting says, every start of a requeued job one row; it lags the controller by up to 4 s."""
        lines = self.run("sacct", "-nXPD", "-j", job, "-o", fields).splitlines()
        return [line.split("|") for line in lines]

    def wait(self, job: str, *states: str, seconds: float = 60) -> dict[str, str]:
        """Waits until the job, or every element of an array, is in one of the states; they are written as in squeue."""

        def there() -> dict[str, str] | None:
            found = self.states(job)
            return found if found and all(state in states for state in found.values()) else None

        return self.until(there, seconds, lambda: f"job {job} is not {' or '.join(states)}: {self.states(job)}")

    def until(self, condition: Callable, seconds: float, said: Callable[[], str]):
        """The condition's first true value. seconds: how long it may take on an idle machine, a busy one gets ten times
        as long. Raises TimeoutError with what `said` says then."""
        end = time.monotonic() + 10 * seconds
        while not (found := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"after {10 * seconds} s: {said()}")
            time.sleep(0.2)
        return found

    def processes(self, job: str) -> set[int]:
        """The processes that srun started for a job (`12`, or `12_3` of an array) on all nodes; no batch shell."""
        raw = self.run("squeue", "-h", "-j", job, "-o", "%A")
        wanted, found = f"SLURM_JOB_ID={raw}".encode(), set()
        for node in self.nodes:
            stepds = self.daemons.stepds(node)
            for pid in self.daemons.tree(stepds) - stepds:
                variables = environment_of(pid)
                # Only a step's processes are born with its number.
                if wanted in variables and any(variable.startswith(b"SLURM_STEP_ID=") for variable in variables):
                    found.add(pid)
        return found

    def signal_processes(self, job: str, number: signal.Signals) -> int:
        """Sends a signal past Slurm, which is not told: KILL for a crash, STOP and CONT for a task that freezes.

        Returns how many processes got it; waits up to 10 s for the first to appear.
        """
        found = self.until(lambda: self.processes(job), 10, lambda: f"no task of {job}:\n{self.run('squeue')}")
        for pid in found:
            send(pid, number)
        return len(found)

    def clear(self) -> None:
        """Cancels all jobs and waits until the queue is empty."""
        self.run("scancel", "-u", "root")
        self.until(lambda: not self.run("squeue", "-h"), 30, lambda: f"jobs are left:\n{self.run('squeue')}")

    # Nodes

    def kill_node(self, node: str) -> int:
        """SIGKILL to a node's daemon and to everything its jobs run there; how many processes that were.

        Slurm finds out after 10 to 20 s: the node is down, the jobs NODE_FAIL, then requeued where they allow it.
        """
        return self.daemons.kill_node(node)

    def revive_node(self, node: str) -> None:
        """Starts a dead node's daemon again and waits until jobs can run there."""
        self.daemons.start_node(node)
        self.until(self.daemons.all_nodes_up, 40, lambda: f"nodes are {self.daemons.node_states()}")

    def node_state(self, node: str) -> str:
        """As sinfo writes it: idle, mixed, allocated, completing, down; a star after it means not responding."""
        return self.daemons.node_states()[node]


def environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
