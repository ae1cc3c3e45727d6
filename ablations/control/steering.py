"""What can be done to a launched grid from outside: cancel it, queue its failed runs anew, find a run (no torch)."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ablations.local.launching import signal_workers
from ablations.plan.budgets import Arm
from ablations.plan.launched import grid_folder
from ablations.plan.plan import Entry, Plan, states
from ablations.plan.queueing import cancel, create_run, queue
from ablations.slurm.submissions import Submission, alone, submissions
from mixmae.fields.identity import Key
from mixmae.files.records import read_json
from mixmae.runs import scheduler
from mixmae.runs.folder import RunFolder
from mixmae.runs.locks import is_locked
from mixmae.runs.state import RunState

PATIENCE_S = 60
"""How long a running job is waited for to save and stop, and a launch of the same grid to end."""


SETTLED = ("done", "failed", "cancelled")
"""The states of runs that no task is needed for."""


@dataclass(frozen=True)
class ChosenRuns:
    """Which of a grid's runs are meant: those that match every field that is not None. encoder: a pattern (fnmatch)."""

    stage: str | None = None
    method: str | None = None
    encoder: str | None = None
    seed: int | None = None

    def of(self, plan: Plan) -> list[Entry]:
        """The plan's runs that are meant. Raises ValueError where there is none."""
        entries = [entry for entry in plan.entries if self._holds(entry)]
        if not entries:
            options = " ".join(f"--{name} {value}" for name, value in asdict(self).items() if value is not None)
            raise ValueError(f"no run of {plan.name} has {options}; it has {_names(plan.entries)}")
        return entries

    def is_all(self) -> bool:
        return self == ChosenRuns()

    def _holds(self, entry: Entry) -> bool:
        return (
            self.stage in (None, entry.planned.stage)
            and self.method in (None, entry.method)
            and self.seed in (None, entry.job.seed)
            and (self.encoder is None or fnmatchcase(entry.encoder or "", self.encoder))
        )


def _names(entries: Iterable[Entry]) -> str:
    rows = [(e.planned.stage, e.method, e.encoder, e.planned.job.seed) for e in entries]
    columns = zip(("stages", "methods", "encoders", "seeds"), zip(*rows, strict=True), strict=True)
    return "; ".join(
        f"{name} {', '.join(sorted({str(v) for v in column if v is not None}))}" for name, column in columns
    )


@dataclass(frozen=True)
class Cancelled:
    """How many runs were marked, tasks taken out of Slurm's queue, and runs that still run."""

    runs: int
    tasks: int
    still: int


def cancel_grid(plan: Plan, chosen: ChosenRuns) -> Cancelled:
    """Marks what is not done or failed as cancelled, takes it out of Slurm's queue and stops what runs.

    Raises scheduler.NoAnswer: where squeue does not answer nothing is marked, where scancel fails tasks stay in the
    queue. Raises RuntimeError where a local launcher is another machine's: its processes cannot be signalled from here.
    """
    folder = grid_folder(plan.root, plan.name)
    with alone(plan, PATIENCE_S):
        known = submissions(plan.root)
        queued = _queue() if known else {}
        run_states = states(plan.entries)
        marked = [entry for entry in chosen.of(plan) if run_states[entry.key].state not in SETTLED]
        for entry in marked:
            create_run(plan.root, entry.planned)
            cancel(entry.run)
        unwanted = {key for key, state in run_states.items() if state.state == "cancelled"} | {e.key for e in marked}
        settled = {key for key, state in run_states.items() if state.state in SETTLED} | unwanted
        tasks = _needless(known, queued, unwanted, settled)
        _take_out(tasks, len(marked))
    if chosen.is_all():
        _stop_launcher(folder)
    else:
        _stop_workers(folder, [entry.run for entry in marked if run_states[entry.key].state == "running"])
    return Cancelled(len(marked), len(tasks), _still_running(marked))


def _queue() -> dict[str, scheduler.Queued]:
    if (queued := scheduler.queue()) is None:
        raise scheduler.NoAnswer("squeue does not answer; nothing was cancelled, try again when it does")
    return queued


def _needless(
    known: dict[str, Submission], queued: dict[str, scheduler.Queued], unwanted: set[Key], settled: set[Key]
) -> list[str]:
    """The tasks in the queue of unwanted runs that hold no other to be run, also of arrays whose launch died half-way.

    A task with other runs is left: it looks at the mark before each. Another grid may count on a run too: what it
    submitted itself is in no record of this grid.
    """
    by_name = {submission.name: submission for submission in known.values()}
    tasks = []
    for task, own in queued.items():
        if own.name in by_name and own.state != "COMPLETING":
            runs = by_name[own.name].tasks[int(task.partition("_")[2] or 0)]
            if settled.issuperset(runs) and not unwanted.isdisjoint(runs):
                tasks.append(task)
    return tasks


def _take_out(tasks: list[str], marked: int) -> None:
    try:
        scheduler.cancel(tasks)
    except scheduler.NoAnswer as error:
        what = f"{marked} runs are marked and will not start, but their tasks may still be in the queue: cancel again"
        raise scheduler.NoAnswer(f"{error}; {what}") from None


def _still_running(marked: list[Entry]) -> int:
    """How many of the marked runs still run after they had time to save."""
    end = time.monotonic() + PATIENCE_S
    while marked := [entry for entry in marked if entry.run.is_held()]:
        if time.monotonic() > end:
            break
        time.sleep(0.3)
    return len(marked)


def _stop_launcher(folder: Path) -> None:
    if not is_locked(folder / "launcher.lock"):
        signal_workers(folder, signal.SIGTERM)
        return
    os.kill(_launcher_here(folder), signal.SIGTERM)


def _stop_workers(folder: Path, runs: list[RunFolder]) -> None:
    """Tells the workers that these runs run in to save and end; the launcher starts others for what is left."""
    pids = {str((run.read("state") or {}).get("pid")) for run in runs}
    workers = [path for path in (folder / "workers").glob("*") if path.name in pids and is_locked(path)]
    if workers and is_locked(folder / "launcher.lock"):
        _launcher_here(folder)
    for path in workers:
        os.kill(int(path.name), signal.SIGTERM)


def _launcher_here(folder: Path) -> int:
    """The process id of the grid's launcher. Raises RuntimeError where it is another machine's."""
    launcher = read_json(folder / "launcher.json")
    if launcher["host"] != socket.gethostname():
        raise RuntimeError(f"{folder.name} was launched on {launcher['host']}; run grid cancel there")
    return int(launcher["pid"])


def retry_failed(plan: Plan, chosen: ChosenRuns) -> tuple[int, int]:
    """Queues the failed runs of the plan that are meant for one more start. Returns how many they are, and how many of
    those meant were cancelled and are left so."""
    run_states = states(plan.entries)
    meant = {name: [e for e in chosen.of(plan) if run_states[e.key].state == name] for name in ("failed", "cancelled")}
    for entry in meant["failed"]:
        queue(entry.run)
    return len(meant["failed"]), len(meant["cancelled"])


def status_document(plan: Plan, run_states: dict[Key, RunState]) -> dict[str, Any]:
    """How the runs of the plan stand, as plain data."""
    jobs = []
    for entry in plan.entries:
        state = run_states[entry.key]
        named = {"id": entry.planned.id, "stage": entry.planned.stage, "method": entry.method, "encoder": entry.encoder}
        jobs.append({**named, **state.__dict__})
    return {"schema": 1, "grid": plan.name, "jobs": jobs}


def plan_document(plan: Plan, run_states: dict[Key, RunState]) -> dict[str, Any]:
    """What the plan holds, as plain data."""
    document = status_document(plan, run_states)
    for job, entry in zip(document["jobs"], plan.entries, strict=True):
        start = entry.needs or (None, None)
        job |= {"needs": start[1], "needs_stage": start[0], "sweeps": list(entry.sweeps), "seed": entry.job.seed}
        if entry.arms:
            job["budgets"] = [_arm_document(arm) for arm in entry.arms]
    outside = [{"stage": run.stage, "id": run.id} for run in plan.outside]
    return {**document, "experiments": plan.experiments, "outside": outside}


def _arm_document(arm: Arm) -> dict[str, Any]:
    known = {} if arm.peak_memory is None else {"peak_memory": arm.peak_memory}
    return {**asdict(arm.resolution), **known}


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False)


def set_aside(plan: Plan) -> list[Path]:
    """Sets the checkpoints of what is not done aside, so that it begins anew: the folders they now lie in.

    Raises mixmae.runs.lease.Held where a process has one of the runs.
    """
    from mixmae.training.checkpoints import set_aside as set_checkpoints_aside

    run_states = states(plan.entries)
    folders = []
    for entry in plan.entries:
        if run_states[entry.key].state != "done" and entry.run.checkpoints.exists():
            with entry.run.lease():
                folders.append(set_checkpoints_aside(entry.run.checkpoints))
    return [folder for folder in folders if folder]
