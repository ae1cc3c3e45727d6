"""What can be done to a launched grid from outside: cancel it, queue its failed runs anew, find a run (no torch)."""

import json
import os
import signal
import socket
import time
from pathlib import Path

from ablations.launching import signal_workers
from ablations.planning import Key, Plan, cancel, create_run, grid_folder, queue, states
from mixmae.runs import RunFolder, RunState, all_runs, read_json
from mixmae.worklist import is_locked

PATIENCE_S = 60
"""How long a running job is waited for to save and stop."""


class NoSuchRun(ValueError):
    """No run, or more than one, has an id that begins so."""


def cancel_grid(plan: Plan) -> tuple[int, int]:
    """Marks what is not done or failed as cancelled and stops what runs: how many are cancelled, how many still run.

    Raises RuntimeError where the launcher is another machine's: its processes cannot be signalled from here.
    """
    found = states(plan.entries)
    marked = [entry for entry in plan.entries if found[entry.key].state not in ("done", "failed", "cancelled")]
    for entry in marked:
        create_run(plan.root, entry.planned, entry.fingerprint)
        cancel(entry.run)
    _stop_launcher(grid_folder(plan.root, plan.name))
    end = time.monotonic() + PATIENCE_S
    while still := [entry for entry in marked if entry.run.is_held()]:
        if time.monotonic() > end:
            break
        time.sleep(0.3)
    return len(marked), len(still)


def _stop_launcher(folder: Path) -> None:
    if not is_locked(folder / "launcher.lock"):
        signal_workers(folder, signal.SIGTERM)
        return
    launcher = read_json(folder / "launcher.json")
    if launcher["host"] != socket.gethostname():
        raise RuntimeError(f"{folder.name} was launched on {launcher['host']}; run grid cancel there")
    os.kill(launcher["pid"], signal.SIGTERM)


def retry_failed(plan: Plan) -> int:
    """Queues the failed runs of the plan for one more start; how many they are."""
    found = states(plan.entries)
    failed = [entry for entry in plan.entries if found[entry.key].state == "failed"]
    for entry in failed:
        queue(entry.run)
    return len(failed)


def find_run(root: Path, prefix: str) -> RunFolder:
    """The run whose id begins with `prefix`. Raises NoSuchRun."""
    runs = [run for run in all_runs(root) if run.id.startswith(prefix)]
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise NoSuchRun(f"no run under {root} has an id that begins with {prefix!r}; mixmae grid status lists them")
    names = ", ".join(f"{run.stage}/{run.id}" for run in runs[:5])
    raise NoSuchRun(f"{len(runs)} runs have ids that begin with {prefix!r} ({names}…); write more of the id")


def status_document(plan: Plan, found: dict[Key, RunState]) -> dict:
    """How the runs of the plan stand, as plain data."""
    jobs = []
    for entry in plan.entries:
        state = found[entry.key]
        named = {"id": entry.planned.id, "stage": entry.planned.stage, "method": entry.method, "encoder": entry.encoder}
        jobs.append({**named, **state.__dict__})
    return {"schema": 1, "grid": plan.name, "jobs": jobs}


def plan_document(plan: Plan, found: dict[Key, RunState]) -> dict:
    """What the plan holds, as plain data."""
    document = status_document(plan, found)
    for job, entry in zip(document["jobs"], plan.entries, strict=True):
        job |= {"needs": entry.planned.needs, "sweeps": list(entry.sweeps), "seed": entry.planned.job.seed}
    outside = [{"stage": run.stage, "id": run.id} for run in plan.outside]
    return {**document, "experiments": plan.experiments, "outside": outside}


def as_text(document: dict) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False)


def set_aside(plan: Plan) -> list[Path]:
    """Sets the checkpoints of what is not done aside, so that it begins anew: the folders they now lie in.

    Raises mixmae.lease.Held where a process has one of the runs.
    """
    from mixmae.training.checkpoints import set_aside as set_checkpoints_aside

    found = states(plan.entries)
    folders = []
    for entry in plan.entries:
        if found[entry.key].state != "done" and entry.run.checkpoints.exists():
            with entry.run.lease():
                folders.append(set_checkpoints_aside(entry.run.checkpoints))
    return [folder for folder in folders if folder]
