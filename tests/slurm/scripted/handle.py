"""What tests hold of the scripted Slurm: they set states and faults, and read which calls were made."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripted.state import BOTH, EXITS, REASONS, change, create, opened

NAMES = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "srun")
OTHERS = (
    "salloc",
    "sattach",
    "sacctmgr",
    "sdiag",
    "sprio",
    "sshare",
    "sreport",
    "sstat",
    "sbcast",
    "strigger",
    "scrontab",
)
NO_ACCOUNTING = "Slurm accounting storage is disabled"
NO_ANSWER = "slurm_load_jobs error: Socket timed out on send/recv operation"


@dataclass(frozen=True)
class Call:
    """One call of a command; `script` is what sbatch was given, `time` in seconds since 1970."""

    name: str
    arguments: list[str]
    time: float
    script: str | None = None


class Scripted:
    """A Slurm whose jobs do what the test says. A job that is no array has the element None.

    Nothing starts by itself: a job stays pending until `set` or `run`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        create(folder)
        (folder / "calls.jsonl").touch()
        program = Path(__file__).with_name("program.py")
        for name in NAMES:
            words = shlex.join([sys.executable, "-E", "-s", "-S", str(program), str(folder), name])
            (self.programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (self.programs / name).chmod(0o755)

    # What happens to jobs

    def set(
        self,
        job: int | str,
        element: int | None,
        state: str,
        node: str = "n1",
        reason: str | None = None,
        exit: str | None = None,
        seen_by: tuple[str, ...] = BOTH,
    ) -> None:
        """A new state of one element, written as in squeue: RUNNING, OUT_OF_MEMORY, PENDING for requeued, ...

        `seen_by` of ("squeue",) or ("sacct",) lets the controller or accounting lag behind the other: a node failure
        seen in passing is NODE_FAIL for sacct and PENDING for squeue. `exit` is "code:signal".
        """
        restarted = "BeginTime" if state == "PENDING" else "None"
        known = dict(reason=reason or REASONS.get(state, restarted), exit=exit or EXITS.get(state, "0:0"))
        with opened(self.folder) as queue:
            change(queue, queue["jobs"][str(job)], named(element), state, node, **known, seen_by=seen_by)

    def run(self, job: int | str, element: int | None = None, node: str = "n1") -> subprocess.CompletedProcess:
        """Runs the job's script here to its end, with Slurm's variables; COMPLETED or FAILED by its exit code."""
        self.set(job, element, "RUNNING", node)
        with opened(self.folder) as queue:
            found = queue["jobs"][str(job)]
        raw, restarts = found["elements"][named(element)]["raw"], found["elements"][named(element)]["restarts"]
        variables = dict(SLURM_JOB_ID=raw, SLURM_JOB_NODELIST=node, SLURMD_NODENAME=node, SLURM_JOB_NUM_NODES=1)
        variables |= dict(SLURM_NTASKS=1, SLURM_NODEID=0, SLURM_PROCID=0, SLURM_LOCALID=0)
        if element is not None:
            variables |= dict(SLURM_ARRAY_JOB_ID=job, SLURM_ARRAY_TASK_ID=element)
        if restarts:
            variables["SLURM_RESTART_COUNT"] = restarts
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        done = subprocess.run(
            ["bash", "-s"],
            input=found["script"],
            env=environment,
            cwd=found["directory"],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            self.set(job, element, "FAILED", node, exit=f"{done.returncode}:0")
        else:
            self.set(job, element, "COMPLETED", node)
        return done

    def forget(self, job: int | str) -> None:
        """The controller's memory of an ended job runs out: squeue and scontrol call its id invalid; so does sacct."""
        with opened(self.folder) as queue:
            del queue["jobs"][str(job)]

    # What a site lacks, what goes wrong

    def no_accounting(self) -> None:
        with opened(self.folder) as queue:
            queue["accounting"] = False

    def max_array_size(self, size: int) -> None:
        with opened(self.folder) as queue:
            queue["max_array_size"] = size

    def next_id(self, number: int) -> None:
        with opened(self.folder) as queue:
            queue["next"] = number

    def remove(self, name: str) -> None:
        """The command is not there, as scontrol on the compute nodes of some sites."""
        (self.programs / name).unlink()

    def fail(self, name: str, error: str = NO_ANSWER, seconds: float = 0, times: int | None = None) -> None:
        """The command prints an error and ends with 1, after `seconds`; for so many calls, or until `mend`.

        An empty `error` only makes it slow.
        """
        with opened(self.folder) as queue:
            queue["faults"][name] = dict(error=error, seconds=seconds, times=times)

    def mend(self, name: str) -> None:
        with opened(self.folder) as queue:
            queue["faults"].pop(name, None)

    # What was called

    def calls(self, *names: str) -> list[Call]:
        """Calls of these commands in their order; of all without names."""
        lines = (self.folder / "calls.jsonl").read_text().splitlines()
        return [call for call in (Call(**json.loads(line)) for line in lines) if not names or call.name in names]

    def jobs(self) -> list[int]:
        """Ids of all jobs ever submitted, oldest first."""
        with opened(self.folder) as queue:
            return [int(number) for number in queue["jobs"]]

    def directives(self, job: int | str) -> dict[str, str]:
        """sbatch's options by their long names, from the script and the command line; flags have an empty value."""
        with opened(self.folder) as queue:
            return queue["jobs"][str(job)]["options"]

    def script(self, job: int | str) -> str:
        with opened(self.folder) as queue:
            return queue["jobs"][str(job)]["script"]

    def states(self, job: int | str) -> dict[int | None, str]:
        """The controller's state of each element; a pending one that was cancelled alone is gone."""
        with opened(self.folder) as queue:
            elements = queue["jobs"][str(job)]["elements"]
        return {int(name) if name else None: element["state"] for name, element in elements.items()}


def named(element: int | None) -> str:
    return "" if element is None else str(element)


def without_slurm(path: str, folder: Path) -> str:
    """A PATH like this one on which no command of an installed Slurm is found.

    A folder that holds one is replaced by links to all its other programs.
    """
    kept, hidden = [], {*NAMES, *OTHERS}
    for number, place in enumerate(dict.fromkeys(map(Path, path.split(":")))):
        if not any((place / name).exists() for name in hidden):
            kept.append(str(place))
            continue
        links = folder / str(number)
        links.mkdir()
        for program in place.iterdir():
            if program.name not in hidden:
                (links / program.name).symlink_to(program)
        kept.append(str(links))
    assert not any(shutil.which(name, path=":".join(kept)) for name in hidden)
    return ":".join(kept)
