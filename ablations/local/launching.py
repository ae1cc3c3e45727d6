"""Runs a plan on this machine: a bounded number of slots, each a process that submitit starts (see mixmae.work.worker).

The launcher queues what is to run, keeps the slots filled, gives a run whose process died one more try and passes
signals on: after the first Ctrl-C (or a TERM) no job starts and the running ones save and stop, the second kills them.
"""

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import mixmae
from ablations.control.watching import Watch
from ablations.grid.file import GridResources
from ablations.plan.launched import grid_folder, remember
from ablations.plan.plan import Entry, Plan, states
from ablations.plan.queueing import STARTED_ANEW, create_run, for_each, queue, withdraw
from ablations.slurm.allocation import environment, without_allocation
from mixmae.fields.identity import Key
from mixmae.fields.texts import many
from mixmae.files.records import write_json
from mixmae.runs.cause import Cause
from mixmae.runs.locks import is_locked, lock
from mixmae.runs.state import RunState
from mixmae.tracking.asked import check_installed
from mixmae.work.worker import POLL_S, Item, WorkList, work

if TYPE_CHECKING:
    import submitit

FOR_EVER_MIN = 60 * 24 * 365
RESEND_S = 1.0
"""A signal reaches a starting process before it listens, so it is sent again."""
STOPPING = b"\nstopping: running jobs save first, Ctrl-C again leaves at once; the same command goes on later\n"
MOST_LOST = 3
"""Workers that may end by themselves beyond those that took a run with them."""


class NoWorker(RuntimeError):
    """No process can be started that runs jobs."""


class Busy(ValueError):
    """Another launcher runs this grid."""


def launch(plan: Plan, resources: GridResources) -> int:
    """Runs what of the plan is not done; 0, 1 where a job failed, 75 after a TERM, 130 after Ctrl-C. Raises Busy, and
    ValueError where the package of a tracker is missing."""
    check_installed(resources.track)
    folder = grid_folder(plan.root, plan.name)
    with lock(folder / "launcher.lock") as free:
        if not free:
            raise Busy(f"{plan.name} is run by another process; see mixmae grid status, or cancel it first")
        write_json(folder / "launcher.json", {"host": socket.gethostname(), "pid": os.getpid()})
        return Launcher(plan, resources, folder).run()


class Launcher:
    def __init__(self, plan: Plan, resources: GridResources, folder: Path):
        self.plan = plan
        self.resources = resources
        self.folder = folder
        self.worklist = folder / "worklist.json"
        self.jobs: list[submitit.Job[None]] = []
        self.lost: list[submitit.Job[None]] = []
        self.deaths: Counter[Key] = Counter()
        self.failed: set[Key] = set()
        self.settled: dict[Key, RunState] = {}
        self.signals: list[signal.Signals] = []
        self.sent_at = 0.0

    def run(self) -> int:
        started = self._queue()
        with self._listening(), Watch(self.plan, started, self.resources.slots) as watch:
            if self.failed:
                watch.say(
                    f"failed before and left so: {many(len(self.failed), 'run')}; mixmae grid retry queues them again"
                )
            watch.begin(states(self.plan.entries, self.settled))
            while True:
                run_states = states(self.plan.entries, self.settled)
                watch.update(run_states)
                self._look_after_workers()
                if self._is_over(run_states):
                    break
                time.sleep(POLL_S)
            run_states = states(self.plan.entries)
            watch.update(run_states)
        if self.signals:
            for entry in self.plan.entries:
                if entry.key in started and run_states[entry.key].state in ("pending", "waiting"):
                    withdraw(entry.run)
            return 130 if signal.SIGINT in self.signals else 75
        return int(any(run_states[key].state in ("failed", "blocked") for key in started))

    def _queue(self) -> set[Key]:
        """Asks for a start of every run that needs one; the keys of all that this command will see through."""
        remember(self.plan.root, self.plan.name, (entry.key for entry in self.plan.entries))
        run_states = states(self.plan.entries, self.settled)
        self.failed = {key for key, state in run_states.items() if state.state == "failed"}
        able = [entry for entry in self.plan.entries if entry.needs not in self.failed]
        anew = [entry for entry in able if run_states[entry.key].state in STARTED_ANEW]
        started = {entry.key for entry in anew} | {
            entry.key for entry in able if run_states[entry.key].state == "running"
        }
        done = [entry for entry in self.plan.entries if run_states[entry.key].state == "done"]  # which may be damaged
        for_each(lambda entry: create_run(self.plan.root, entry.planned), [*anew, *done])
        for_each(lambda entry: queue(entry.run), anew)
        items = tuple(Item(*entry.key, entry.needs) for entry in in_order(self.plan.entries))
        WorkList(items, self.resources.of_jobs(), os.environ.get("CUDA_VISIBLE_DEVICES")).write(self.worklist)
        return started

    def _is_over(self, run_states: dict[Key, RunState]) -> bool:
        if self.signals:
            self._stop()
            return not self.jobs
        dead = [entry for entry in self.plan.entries if _has_died(run_states[entry.key])]
        if dead:
            for entry in dead:
                self._after_a_death(entry)
            return False
        left = Counter(state.state for state in run_states.values())
        wanted = min(self.resources.slots, left["pending"] + left["running"])
        if left["pending"] and len(self.jobs) < wanted:
            self.jobs += [self._start_worker() for _ in range(wanted - len(self.jobs))]
        return not (self.jobs or left["pending"] or left["running"])

    # ------------------------------------------------------------------------------------------------------- workers

    def _start_worker(self) -> "submitit.Job[None]":
        import submitit

        executor = submitit.LocalExecutor(folder=self.folder / "submitit")
        executor.update_parameters(timeout_min=FOR_EVER_MIN)
        with environment(_variables(self.resources.threads)), _blocked(signal.SIGINT, signal.SIGHUP):
            return executor.submit(work, str(self.worklist))

    def _look_after_workers(self) -> None:
        """Lets go of ended workers. Raises NoWorker where they end without having run anything."""
        ended = [job for job in self.jobs if job.done()]
        self.jobs = [job for job in self.jobs if job not in ended]
        self.lost += [job for job in ended if not _ended_well(job)]
        if len(self.lost) - self.deaths.total() > MOST_LOST and not self.signals:
            raise NoWorker(f"workers die before they run anything; the last one wrote:\n{self.lost[-1].stderr()}")

    def _after_a_death(self, entry: Entry) -> None:
        """One more try for a run whose process died; the second time it has failed."""
        state = states([entry])[entry.key]
        if not _has_died(state):
            return
        self.deaths[entry.key] += 1
        if self.deaths[entry.key] == 1:
            queue(entry.run)
            return
        with entry.run.lease():  # the job that writes state.json is dead, and the lease makes this process its owner
            reason = "its process died twice (killed, out of memory or crashed); see log.txt and mixmae grid retry"
            said = {"state": "failed", "cause": Cause.KILLED, "reason": reason}
            entry.run.write("state", {**entry.run.recovered("state"), **said})

    # ------------------------------------------------------------------------------------------------------- signals

    @contextmanager
    def _listening(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._heard) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal; writes with os.write, which a handler may use in the middle of anything."""
        if not self.signals:
            os.write(2, STOPPING)
        self.signals.append(signal.Signals(number))

    def _stop(self) -> None:
        if self.signals.count(signal.SIGINT) > 1:
            self._kill()
        elif time.monotonic() - self.sent_at > RESEND_S:
            self.sent_at = time.monotonic()
            signal_workers(self.folder, signal.SIGTERM)

    def _kill(self) -> None:
        signal_workers(self.folder, signal.SIGKILL)
        for job in self.jobs:
            os.kill(int(job.job_id), signal.SIGKILL)
        self.jobs = []


def _has_died(state: RunState) -> bool:
    """Whether its process died, and nobody has started it again."""
    return state.state == "stopped" and state.cause is Cause.KILLED


def _ended_well(job: "submitit.Job[None]") -> bool:
    from submitit.core.utils import pickle_load

    result = job.paths.result_pickle
    return result.exists() and bool(pickle_load(result)[0] == "success")


def signal_workers(folder: Path, number: signal.Signals) -> int:
    """Sends TERM to the workers of a grid, or KILL to their process groups; how many live. A lock tells who lives."""
    alive = [path for path in (folder / "workers").glob("*") if is_locked(path)]
    for path in alive:
        try:
            (os.killpg if number == signal.SIGKILL else os.kill)(int(path.name), number)
        except ProcessLookupError:
            continue
    return len(alive)


def in_order(entries: tuple[Entry, ...]) -> list[Entry]:
    """Best first: what others have made ready, then what unblocks most, then what neither waits nor is waited for."""
    unblocks = Counter(entry.needs for entry in entries)

    def rank(entry: Entry) -> tuple[int, int]:
        if unblocks[entry.key] or not entry.job.spec.measures:
            return 1, -unblocks[entry.key]
        return (0, 0) if entry.needs else (2, 0)

    return sorted(entries, key=rank)


def _variables(threads: int) -> dict[str, str]:
    """The environment that workers start in: no traces of an allocation, nothing of the user's folder importable."""
    here = str(Path(mixmae.__file__).parents[1])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    own = {"PYTHONSAFEPATH": "1", "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    return {**without_allocation(), **own}


@contextmanager
def _blocked(*numbers: signal.Signals) -> Iterator[None]:
    """Processes started inside never hear these signals: a mask is inherited. Here they are heard afterwards."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
