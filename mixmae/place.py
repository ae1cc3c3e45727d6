"""Which of a run's processes this one is, by what started it: torchrun, or Slurm's srun (no torch)."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """rank: among `count` processes, from 0. local: among those of this machine. address, port: where all of them
    meet, which the first one opens."""

    rank: int
    count: int
    local: int
    address: str
    port: int


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
    """Of a step that srun started: the script of a batch job, outside of steps, is alone. submitit derives the port
    from the job's number, so that two jobs on a machine do not collide."""
    if "SLURM_STEP_NUM_TASKS" not in os.environ:
        return None
    from submitit.helpers import TorchDistributedEnvironment

    found = TorchDistributedEnvironment()
    count = int(os.environ["SLURM_STEP_NUM_TASKS"])
    return Place(found.rank, count, found.local_rank, found.master_addr, found.master_port)
