"""Slurm's programs: squeue, sacct, scontrol and scancel, called one at a time (no torch)."""

import getpass
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

log = logging.getLogger(__name__)

TIMEOUT_S = 30
"""How long a program of Slurm may take."""
NO_NODE = "None assigned"
"""The node that sacct writes for a task that never began."""
PREFIX = "mixmae-"
"""The beginning of the names of the jobs that this program submits."""
DEFAULT_MAX_ARRAY_SIZE = 1001
"""Slurm's own default of MaxArraySize."""


class NoAnswer(RuntimeError):
    """A program of Slurm is missing, failed or did not answer."""


@dataclass(frozen=True)
class Queued:
    """A task in the queue. state: squeue's, such as PENDING. reason: why it is pending. node: where it runs
    otherwise."""

    state: str
    reason: str
    node: str
    name: str


@dataclass(frozen=True)
class Ended:
    """A task in Slurm's accounting. state: such as OUT_OF_MEMORY. signal: the one that ended it, or 0. code: its exit
    code."""

    state: str
    signal: int
    code: int
    node: str


def available() -> bool:
    return shutil.which("sbatch") is not None


def listed(job: str) -> bool | None:
    """Whether Slurm still lists the job; None where Slurm does not answer (down, or not installed here).

    job: the number in SLURM_JOB_ID. Every element of an array has one of its own; one element has the array's.
    """
    try:
        return job in _output("squeue", "--noheader", "--array", "--jobs", job, "--format", "%A").split()
    except NoAnswer as error:
        return False if "Invalid job id" in str(error) else None


def queue() -> dict[str, Queued] | None:
    """Returns our tasks in the queue by "JOB" or "ARRAY_TASK", in one call; None where Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i|%T|%r|%N|%j"]
    try:
        lines = _output(*command).splitlines()
    except NoAnswer as error:
        log.warning("%s", error)
        return None
    rows = (line.strip().split("|", 4) for line in lines if line.count("|") >= 4)
    return {id: Queued(state, reason, node, name) for id, state, reason, node, name in rows if name.startswith(PREFIX)}


def ended(jobs: Iterable[str]) -> dict[str, Ended] | None:
    """Returns what `accounted` returns; None, with a warning, where accounting does not answer."""
    try:
        return accounted(jobs)
    except NoAnswer as error:
        log.warning("%s", error)
        return None


def accounted(jobs: Iterable[str]) -> dict[str, Ended]:
    """Returns the accounting of all tasks of these jobs ("17", not "17_3"), by task, in one call. Raises NoAnswer."""
    if not (jobs := sorted(set(jobs))):
        return {}
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format", "JobID,State,ExitCode,NodeList"]
    tasks = {}
    for line in _output(*command, "--jobs", ",".join(jobs)).splitlines():
        id, state, code, node = line.split("|")[:4]
        exit, _, signal = code.partition(":")
        tasks[id] = Ended(state.split()[0], int(signal or 0), int(exit or 0), "" if node == NO_NODE else node)
    return tasks


def max_array_size() -> int:
    """Returns the site's MaxArraySize: one more than the highest index of a task."""
    try:
        match = re.search(r"MaxArraySize\s*=\s*(\d+)", _output("scontrol", "show", "config"))
    except NoAnswer as error:
        log.warning("%s; arrays are kept below Slurm's own limit", error)
        match = None
    return int(match[1]) if match else DEFAULT_MAX_ARRAY_SIZE


def wait_for(task: str, needed: Iterable[str]) -> None:
    """Makes the held task wait until all `needed` ones have succeeded (afterok)."""
    _output("scontrol", "update", f"jobid={task}", f"dependency={':'.join(('afterok', *needed))}")


def release(job: str) -> None:
    _output("scontrol", "release", job)


def requeue() -> bool:
    """Requeues this process's own task; returns whether Slurm agreed."""
    array, index = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    task = f"{array}_{index}" if array else os.environ.get("SLURM_JOB_ID", "")
    try:
        _output("scontrol", "requeue", task)
    except NoAnswer as error:
        log.warning("not requeued: %s", error)
        return False
    return True


def cancel(tasks: Iterable[str]) -> None:
    """Cancels the tasks; running ones get SIGTERM first, and time to save."""
    if tasks := sorted(tasks):
        _output("scancel", *tasks)


def cancel_named(name: str) -> None:
    _output("scancel", "--user", getpass.getuser(), "--name", name)


def _output(*command: str) -> str:
    """Returns what the program wrote to standard output. Raises NoAnswer."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise NoAnswer(f"{command[0]} is not there: no Slurm on this machine?") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]} has not answered for {TIMEOUT_S} s") from None
    if answer.returncode:
        raise NoAnswer(f"{command[0]}: {' '.join(answer.stderr.split()) or f'exit code {answer.returncode}'}")
    return answer.stdout
