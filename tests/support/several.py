"""Starts one program on several processes, as torchrun and srun do; run as a program itself, it runs stage jobs so."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mixmae.runs.folder import RunFolder
from mixmae.training.places import place
from mixmae.training.processes import join
from mixmae.training.resources import Resources
from mixmae.work.execution import execute, follow
from support.tiny_jobs import never


def start(count: int, command: list, **environment: str) -> list[subprocess.Popen]:
    """`command` after "python", as processes 0 … count - 1; their standard errors are pipes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | environment
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes: list[subprocess.Popen], within_s: float = 600) -> list[str]:
    """Standard errors, by rank; all must end well."""
    said = [process.communicate(timeout=within_s)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


def run_all(runs: list[RunFolder], resources: Resources, processes=None) -> None:
    """Runs the jobs and leaves each one's gradients of the first optimiser step beside its run folder."""
    for run in runs:
        first: list[torch.Tensor] = []

        def note(optimizer, *_, first=first):
            if not first:
                groups = (group["params"] for group in optimizer.param_groups)
                first.extend(parameter.grad.clone() for group in groups for parameter in group)

        hook = register_optimizer_step_pre_hook(note)
        assert execute(run, resources, never, processes) == "done", run.read("state")
        hook.remove()
        torch.save(first, run.path / "gradients.pt")


def main() -> None:
    """Arguments: Resources as JSON, then the run folders."""
    torch.set_num_threads(1)
    resources = Resources.model_validate_json(sys.argv[1])
    runs = [RunFolder(path.parents[1], path.parent.name, path.name) for path in map(Path, sys.argv[2:])]
    processes = join(place())
    if processes.leads:
        run_all(runs, resources, processes)
        processes.dismiss()
    else:
        sys.exit(follow(resources, never, processes) != "done")


if __name__ == "__main__":
    main()
