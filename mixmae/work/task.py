"""Runs a Slurm task: one stage job, or a pack of them, given as the path of a file (no torch until then).

The path is the only argument: what to compute is in the run folder's `config.json`, how in its `launch.json`. A task
that gets a signal to stop (preempted, near its time limit) saves and asks Slurm to requeue it. Every start resumes from
what the run folder holds.
"""

import logging
import os
import signal
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from mixmae.experiment.jobs import start_of
from mixmae.files.records import read_json
from mixmae.runs.folder import RunFolder, newest_step
from mixmae.runs.lease import STALE_S, Held
from mixmae.runs.scheduler import requeue
from mixmae.training.places import place
from mixmae.training.resources import Resources
from mixmae.work.worker import StopFlag, run_job

if TYPE_CHECKING:
    from mixmae.training.processes import Processes

log = logging.getLogger(__name__)


LOOK_S = 5.0
"""How often a task checks whether a run whose owner fell silent is free."""


MOST_IN_VAIN = 10
"""A task that was requeued so often, and got no further in its last start, is not requeued again. Before that it may
have been unlucky: linear and kNN jobs save nothing on the way."""


class NotDone(RuntimeError):
    """The task ends without its run being done, so that what depends on it does not start."""


def run(path: str) -> str:
    """Runs the stage job whose `config.json` is at `path`, or those of the pack at `path`; returns "done", "waiting" or
    "requeued".

    Raises NotDone where one failed or stopped without being requeued.
    """
    stop = StopFlag(signal.SIGTERM, signal.SIGUSR2)
    runs = _runs(Path(path))
    processes = None
    if own := place():
        os.environ["OMP_NUM_THREADS"] = str(_resources(runs[0]).threads)
        from mixmae.training.processes import join

        processes = join(own)
        if own.rank:
            return _follow(runs[0], stop, processes)
    before = [_reached(run) for run in runs]
    ends = [_packed_run(run, stop) for run in runs] if len(runs) > 1 else [_attempt(runs[0], stop, processes)]
    further = before != [_reached(run) for run in runs]
    in_vain = int(os.environ.get("SLURM_RESTART_COUNT", 0)) >= MOST_IN_VAIN and not further
    if stop() and stop.raised == signal.SIGUSR2 and "stopped" in ends and not in_vain and requeue():
        return "requeued"
    if bad := [f"{run.stage}/{run.id} {state}" for run, state in zip(runs, ends, strict=True) if state in NOT_DONE]:
        raise NotDone(f"{'; '.join(bad)}: see mixmae grid why")
    if processes:
        processes.dismiss()
    return "waiting" if "waiting" in ends else "done"


NOT_DONE = ("failed", "stopped", "held")


def _reached(run: RunFolder) -> tuple[bool, int]:
    """Returns whether the run has a result, and the step of its newest checkpoint."""
    return (run.path / "result.json").exists(), newest_step(run)


def _runs(path: Path) -> list[RunFolder]:
    """Returns the run of a config.json, or those of a pack, which lies in ROOT/grids/NAME/packs/."""
    if path.name == "config.json":
        return [RunFolder(path.parents[2], path.parent.parent.name, path.parent.name)]
    return [RunFolder(path.parents[3], stage, id) for stage, id in read_json(path)["runs"]]


def _resources(run: RunFolder) -> Resources:
    return Resources.model_validate((run.read("launch") or {}).get("resources", {}))


def _follow(run: RunFolder, stop: StopFlag, processes: "Processes") -> str:
    from mixmae.work.execution import follow

    state = follow(_resources(run), stop, processes)
    if state != "failed":
        return state  # rank 0 decides how the task ends: an exit code of this rank would end it before it is requeued
    raise NotDone(f"process {processes.rank}: {state}")


def _packed_run(run: RunFolder, stop: StopFlag) -> str:
    """Runs one run of a pack; a folder that cannot be read or written ends that run alone."""
    try:
        return _attempt(run, stop, None)
    except (OSError, ValueError):
        traceback.print_exc()
        return "failed"


def _attempt(run: RunFolder, stop: StopFlag, processes: "Processes | None") -> str:
    """Runs the stage job and returns the state it leaves; "waiting" where the run that it starts from is not done."""
    if stop():
        return "stopped"
    if (run.read("launch") or {}).get("cancelled"):
        return "cancelled"
    if (needs := _start(run)) and needs.read("result") is None:
        print(f"{run.stage}/{run.id} waits for {needs.stage}/{needs.id}", flush=True)
        return "waiting"
    end = time.monotonic() + STALE_S + 3 * LOOK_S
    while True:
        try:
            resources = _resources(run)
            os.environ["OMP_NUM_THREADS"] = str(resources.threads)
            return run_job(run, resources, stop, processes)
        except Held as error:
            # An owner that was killed on another machine shows it only by its silence.
            if run.read("result") is not None:
                return "done"
            if stop() or time.monotonic() > end:
                print(error, flush=True)
                return "held"
            time.sleep(LOOK_S)


def _start(run: RunFolder) -> RunFolder | None:
    """Returns the run that this one starts from, if any."""
    config = run.read("config")
    start = start_of(config["job"]) if config else None
    return RunFolder(run.root, *start) if start else None
