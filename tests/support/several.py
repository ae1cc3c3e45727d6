"""Starts one program on several processes, as torchrun and srun do."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mixmae.runs.folder import RunFolder
from mixmae.training.places import place
from mixmae.training.processes import join
from mixmae.training.resources import Resources
from mixmae.work.execution import execute, follow
from support.forked import Forked
from support.tiny_jobs import never


def start(count: int, target: Callable[..., Forked], *words: object) -> list[Forked]:
    """`target`, as processes 0 … count - 1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    return [target(*map(str, words), RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(count)]


def jobs(*words: str, **environment: str) -> Forked:
    """One of the processes that run stage jobs: Resources as JSON, then the run folders."""
    return Forked(_run_jobs, *words, **environment)


def finish(processes: list[Forked], within_s: float = 600) -> list[str]:
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


def _run_jobs(as_json: str, *paths: str) -> None:
    torch.set_num_threads(1)
    resources = Resources.model_validate_json(as_json)
    runs = [RunFolder(path.parents[1], path.parent.name, path.name) for path in map(Path, paths)]
    processes = join(place())
    if processes.leads:
        run_all(runs, resources, processes)
        processes.dismiss()
    else:
        sys.exit(follow(resources, never, processes) != "done")
