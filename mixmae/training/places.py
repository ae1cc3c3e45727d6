"""Which of a run's processes this one is, by what started it: torchrun, or Slurm's srun (no torch)."""

import os
import re
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """rank: among `count` processes, from 0. local: among those of this machine. address, port: where all of them meet,
    which the first one opens."""

    rank: int
    count: int
    local: int
    address: str
    port: int


def node() -> str:
    """This machine, by the name that Slurm has for it where Slurm started this process."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def place() -> Place | None:
    """None where this process is alone."""
    found = _of_torchrun() if "RANK" in os.environ else _of_slurm()
    return found if found and found.count > 1 else None


def _of_torchrun() -> Place:
    """Raises ValueError where a variable that torchrun sets is missing."""
    wanted = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in wanted if name not in os.environ]:
        raise ValueError(f"RANK is set but not {', '.join(missing)}; start with torchrun, or unset RANK")
    rank, count, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    return Place(rank, count, int(os.environ.get("LOCAL_RANK", rank)), os.environ["MASTER_ADDR"], port)


def _of_slurm() -> Place | None:
    """Of a step that srun started: the script of a batch job, outside of steps, is alone."""
    if "SLURM_STEP_NUM_TASKS" not in os.environ:
        return None
    names = ("PROCID", "STEP_NUM_TASKS", "LOCALID", "JOB_ID", "STEP_ID")
    rank, count, local, job, step = (int(os.environ[f"SLURM_{name}"]) for name in names)
    # Two jobs on a machine, or two steps of a job, do not meet at one port.
    return Place(rank, count, local, first_host(os.environ["SLURM_STEP_NODELIST"]), 20000 + (31 * job + step) % 40000)


def first_host(nodes: str) -> str:
    """Of a node list as Slurm writes it: "gpu[07-09,12],login1" -> "gpu07"."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    assert first is not None, "a node list is never empty"
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0])
