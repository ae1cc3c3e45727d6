"""What Slurm says of jobs, and what it is asked to do: one call of a program each (no torch)."""

import getpass
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

log = logging.getLogger(__name__)

PATIENCE_S = 30
NO_NODE = "None assigned"
"""As sacct writes it of a task that never began."""
PREFIX = "mixmae-"
"""Of the names of the jobs this program submits."""
DEFAULT_MAX_ARRAY_SIZE = 1001
"""Slurm's own."""


class NoAnswer(RuntimeError):
    """A program of Slurm is missing, failed or did not answer."""


@dataclass(frozen=True)
class Queued:
    """A task in the queue. state: as squeue says it: PENDING, RUNNING, … reason: of a pending one. node: of another."""

    state: str
    reason: str
    node: str
    name: str


@dataclass(frozen=True)
class Ended:
    """A task as accounting has it. state: such as OUT_OF_MEMORY. signal: that ended it, or 0. code: of its exit."""

    state: str
    signal: int
    code: int
    node: str


def available() -> bool:
    return shutil.which("sbatch") is not None


def listed(job: str) -> bool | None:
    """Whether Slurm still lists the job, an element of an array by the number of its own (SLURM_JOB_ID), which of one
    element is that of the whole array; None where it does not answer (down, or no Slurm here)."""
    try:
        return job in _said("squeue", "--noheader", "--array", "--jobs", job, "--format", "%A").split()
    except NoAnswer as error:
        return False if "Invalid job id" in str(error) else None


def queue() -> dict[str, Queued] | None:
    """Our tasks in the queue by "JOB" or "ARRAY_TASK", in one call; None where Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i|%T|%r|%N|%j"]
    try:
        said = _said(*command)
    except NoAnswer as error:
        log.warning("%s", error)
        return None
    rows = (line.strip().split("|", 4) for line in said.splitlines() if line.count("|") >= 4)
    return {id: Queued(state, reason, node, name) for id, state, reason, node, name in rows if name.startswith(PREFIX)}


def ended(jobs: Iterable[str]) -> dict[str, Ended] | None:
    """`accounted`; None without accounting."""
    try:
        return accounted(jobs)
    except NoAnswer as error:
        log.warning("%s", error)
        return None


def accounted(jobs: Iterable[str]) -> dict[str, Ended]:
    """What accounting says of all tasks of these jobs ("17", not "17_3"), in one call. Raises NoAnswer."""
    if not (jobs := sorted(set(jobs))):
        return {}
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format", "JobID,State,ExitCode,NodeList"]
    found = {}
    for line in _said(*command, "--jobs", ",".join(jobs)).splitlines():
        id, state, code, node = line.split("|")[:4]
        exit, _, signal = code.partition(":")
        found[id] = Ended(state.split()[0], int(signal or 0), int(exit or 0), "" if node == NO_NODE else node)
    return found


def max_array_size() -> int:
    """The site's MaxArraySize: one more than the highest index of a task."""
    try:
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _said("scontrol", "show", "config"))
    except NoAnswer as error:
        log.warning("%s; arrays are kept below Slurm's own limit", error)
        found = None
    return int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE


def wait_for(task: str, needed: Iterable[str]) -> None:
    """The held task starts when all `needed` ones have ended well."""
    _said("scontrol", "update", f"jobid={task}", f"dependency={':'.join(('afterok', *needed))}")


def release(job: str) -> None:
    _said("scontrol", "release", job)


def requeue() -> bool:
    """Asks for this process's own task to be started again; whether Slurm agreed."""
    array, index = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    task = f"{array}_{index}" if array else os.environ.get("SLURM_JOB_ID", "")
    try:
        _said("scontrol", "requeue", task)
    except NoAnswer as error:
        log.warning("not requeued: %s", error)
        return False
    return True


def cancel(tasks: Iterable[str]) -> None:
    """Takes them out of the queue; running ones get TERM first, and time to save."""
    if tasks := sorted(tasks):
        _said("scancel", *tasks)


def cancel_named(name: str) -> None:
    _said("scancel", "--user", getpass.getuser(), "--name", name)


def _said(*command: str) -> str:
    """What the program wrote. Raises NoAnswer."""
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        raise NoAnswer(f"{command[0]} is not there: no Slurm on this machine?") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]} has not answered for {PATIENCE_S} s") from None
    if found.returncode:
        raise NoAnswer(f"{command[0]}: {' '.join(found.stderr.split()) or f'exit code {found.returncode}'}")
    return found.stdout
