"""Runs a worker: one process that takes stage jobs off a shared list, one after another, so that torch loads once.

A work list is a small JSON file of run folders under one root, in the order to run them. A worker that runs a job holds
the lock `claim` in the run folder, for taking it off the list, and the run's lease, for running it; both are free again
however the process ends. Where the launcher is gone (its lock is free), a worker takes no new job.
"""

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixmae.experiment.jobs import start_of
from mixmae.fields.identity import Key
from mixmae.files.records import read_json, write_json
from mixmae.runs.folder import RunFolder
from mixmae.runs.lease import Held
from mixmae.runs.locks import is_locked, lock
from mixmae.runs.state import RunState, run_state
from mixmae.training.resources import Resources

if TYPE_CHECKING:
    from mixmae.training.processes import Processes

POLL_S = 0.3
"""How long a worker waits before it looks at the list again."""


@dataclass(frozen=True)
class Item:
    stage: str
    id: str
    needs: Key | None
    """The run that must be done first."""


@dataclass(frozen=True)
class WorkList:
    """The contents of ROOT/grids/NAME/worklist.json; ROOT follows from its path."""

    items: tuple[Item, ...]
    resources: Resources
    visible_devices: str | None
    """CUDA_VISIBLE_DEVICES in the launcher (None: not set), since submitit's local executor empties it in workers."""

    def write(self, path: Path) -> None:
        items = [asdict(item) for item in self.items]
        resources = self.resources.model_dump(mode="json")
        write_json(path, {"items": items, "resources": resources, "visible_devices": self.visible_devices})

    @classmethod
    def read(cls, path: Path) -> "WorkList":
        data = read_json(path)
        items = tuple(Item(item["stage"], item["id"], item["needs"] and tuple(item["needs"])) for item in data["items"])
        return cls(items, Resources.model_validate(data["resources"]), data["visible_devices"])


def root_of(worklist: Path) -> Path:
    return worklist.parents[2]


# ------------------------------------------------------------------------------------------------------------- working


class StopFlag:
    """A flag that signals raise and that is read between steps. A second Ctrl-C ends the process at once."""

    def __init__(self, *signals: signal.Signals):
        self.raised: signal.Signals | None = None
        for number in signals:
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: object) -> None:
        self.raised = self.raised or signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.raised is not None


def work(path: str) -> None:
    """Runs jobs of the work list at `path` until none is left that this process could run, or a signal raises the
    flag."""
    _own_session()
    worklist = WorkList.read(Path(path))
    _show_devices(worklist.visible_devices)
    stop = StopFlag(signal.SIGTERM, signal.SIGUSR2)
    folder = Path(path).parent
    own = folder / "workers" / f"{os.getpid()}"
    with lock(own) as free:
        assert free, f"{own} is held"
        _work(worklist, root_of(Path(path)), folder / "launcher.lock", stop)
    own.unlink()


def _own_session() -> None:
    """Leaves the terminal's process group, so that the worker and its data loaders are a group of their own."""
    if os.getpid() != os.getsid(0):
        os.setsid()


def _show_devices(visible: str | None) -> None:
    if visible is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible


def _work(worklist: WorkList, root: Path, launcher: Path, stop: StopFlag) -> None:
    done: dict[Item, RunState] = {}
    while not stop() and is_locked(launcher):
        states = _states(worklist, root, done)
        ready = [item for item, state in states.items() if state.state == "pending"]
        if any(_take(item, root, worklist.resources, stop) for item in ready):
            continue
        if not ready and "running" not in {state.state for state in states.values()}:
            return
        time.sleep(POLL_S)


def _states(worklist: WorkList, root: Path, done: dict[Item, RunState]) -> dict[Item, RunState]:
    """Returns the state of each item that is not done; collects the others in `done`, which are not read again."""
    by_key: dict[Key, RunState] = {}
    states: dict[Item, RunState] = {}
    for item in worklist.items:
        if item not in done:
            needs = _state_of(root, item.needs, by_key) if item.needs else None
            states[item] = by_key[item.stage, item.id] = run_state(RunFolder(root, item.stage, item.id), needs)
            if states[item].state == "done":
                done[item] = states[item]
    return states


def _state_of(root: Path, key: Key, by_key: dict[Key, RunState]) -> RunState:
    """Returns the state of a run that another waits for, following the chain of runs that it waits for itself."""
    if key not in by_key:
        run = RunFolder(root, *key)
        config = run.read("config") or {}
        start = start_of(config.get("job", {}))
        by_key[key] = run_state(run, _state_of(root, start, by_key) if start else None)
    return by_key[key]


def _take(item: Item, root: Path, resources: Resources, stop: StopFlag) -> bool:
    """Runs the job unless another process runs it or has run it; returns whether it ran here."""
    run = RunFolder(root, item.stage, item.id)
    with lock(run.path / "claim") as free:
        needs = _state_of(root, item.needs, {}) if item.needs else None
        if not free or run_state(run, needs).state != "pending":
            return False
        try:
            state = run_job(run, resources, stop)
        except Held:
            return False
    print(json.dumps({"stage": item.stage, "id": item.id, "state": state}), flush=True)
    return True


def run_job(run: RunFolder, resources: Resources, stop: StopFlag, processes: "Processes | None" = None) -> str:
    """Runs one stage job in its folder; returns "done", "stopped" or "failed". Raises Held where another process runs
    it."""
    from mixmae.work.execution import execute

    os.chdir(run.path)
    return execute(run, resources, stop, processes)
