"""What a task of a Slurm job runs: one stage job, or a pack of them, given as the path of a file (no torch until then).

It takes nothing else: what to compute is in the run folder's `config.json`, how in its `launch.json`. A task that is
told to stop (preempted, near its time limit) saves and asks Slurm to be started again; whoever starts it, it goes on
from what the run folder holds.
"""

import logging
import os
import signal
import time
import traceback
from pathlib import Path

from mixmae.experiment.jobs import start_of
from mixmae.files.records import read_json
from mixmae.runs.folder import RunFolder, newest_step
from mixmae.runs.lease import STALE_S, Held
from mixmae.runs.scheduler import requeue
from mixmae.training.places import place
from mixmae.training.resources import Resources
from mixmae.work.worker import StopFlag, run_job

log = logging.getLogger(__name__)


LOOK_S = 5.0
"""How often a task asks whether a run whose owner went silent is free."""


MOST_IN_VAIN = 10
"""A task started again so often asks for no more where its last start got no further. Before that it may have been
unlucky: linear and kNN jobs save nothing on the way."""


class NotDone(RuntimeError):
    """The task ends without its run being done, so that what depends on it does not start."""


def run(path: str) -> str:
    """Runs the stage job whose `config.json` is at `path`, or those a pack names; "done", "waiting" or "requeued".

    Raises NotDone where one failed or stopped without being requeued.
    """
    stop = StopFlag(signal.SIGTERM, signal.SIGUSR2)
    runs = _runs(Path(path))
    processes = None
    if found := place():
        os.environ["OMP_NUM_THREADS"] = str(_resources(runs[0]).threads)
        from mixmae.training.processes import join

        processes = join(found)
        if found.rank:
            return _follow(runs[0], stop, processes)
    before = [_reached(one) for one in runs]
    ends = [_of_a_pack(one, stop) for one in runs] if len(runs) > 1 else [_attempt(runs[0], stop, processes)]
    further = before != [_reached(one) for one in runs]
    in_vain = int(os.environ.get("SLURM_RESTART_COUNT", 0)) >= MOST_IN_VAIN and not further
    if stop() and stop.raised == signal.SIGUSR2 and "stopped" in ends and not in_vain and requeue():
        return "requeued"
    if bad := [f"{one.stage}/{one.id} {state}" for one, state in zip(runs, ends, strict=True) if state in NOT_DONE]:
        raise NotDone(f"{'; '.join(bad)}: see mixmae grid why")
    if processes:
        processes.dismiss()
    return "waiting" if "waiting" in ends else "done"


NOT_DONE = ("failed", "stopped", "held")


def _reached(run: RunFolder) -> tuple[bool, int]:
    """Whether it has a result, and its newest checkpoint's step."""
    return (run.path / "result.json").exists(), newest_step(run)


def _runs(path: Path) -> list[RunFolder]:
    """A pack lies in ROOT/grids/NAME/packs/."""
    if path.name == "config.json":
        return [RunFolder(path.parents[2], path.parent.parent.name, path.parent.name)]
    return [RunFolder(path.parents[3], stage, id) for stage, id in read_json(path)["runs"]]


def _resources(run: RunFolder) -> Resources:
    return Resources.model_validate((run.read("launch") or {}).get("resources", {}))


def _follow(run: RunFolder, stop: StopFlag, processes) -> str:
    from mixmae.work.execution import follow

    state = follow(_resources(run), stop, processes)
    if state != "failed":
        return state  # process 0 says how the task ends: an exit code of this one would end it before it has asked
    raise NotDone(f"process {processes.rank}: {state}")


def _of_a_pack(run: RunFolder, stop: StopFlag) -> str:
    """A folder that cannot be read or written to ends its own run alone."""
    try:
        return _attempt(run, stop, None)
    except (OSError, ValueError):
        traceback.print_exc()
        return "failed"


def _attempt(run: RunFolder, stop: StopFlag, processes) -> str:
    """The state the run is left in; "waiting" where what it starts from is not done: nothing ever starts without it."""
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
            # An owner that was killed on another machine is known to be gone only by its silence.
            if run.read("result") is not None:
                return "done"
            if stop() or time.monotonic() > end:
                print(error, flush=True)
                return "held"
            time.sleep(LOOK_S)


def _start(run: RunFolder) -> RunFolder | None:
    """The run that it starts from."""
    config = run.read("config")
    start = start_of(config["job"]) if config else None
    return RunFolder(run.root, *start) if start else None
