"""Runs one stage job in its folder: lease, states, environment, log. Loads torch only when called.

Where a run has several processes, rank 0 does all of this; the others `follow` it: they compute and write nothing.
"""

import gc
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixmae.data.sources import sources
from mixmae.experiment.jobs import StageJob, job_id, job_of
from mixmae.experiment.plugins import plugins_of
from mixmae.fields.specs import resolve
from mixmae.files.retrying import naming
from mixmae.runs.cause import Cause, cause_of
from mixmae.runs.folder import RunFolder
from mixmae.runs.lease import Lease, Lost
from mixmae.tracking.trackers import Trackers
from mixmae.training.places import node
from mixmae.training.resources import Resources
from mixmae.work.environment import record_environment

if TYPE_CHECKING:
    from mixmae.training.processes import Ending, Processes
    from mixmae.training.session import Outcome

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
"""state.json is rewritten after an epoch, but not more often than this."""
ROOM = 1 << 16
"""Bytes that a run reserves in its folder; freed, they let state.json say what ended the run on a full disk."""


def execute(
    run: RunFolder, resources: Resources, stop: Callable[[], bool], processes: "Processes | None" = None
) -> str:
    """Runs the stage job of `run/config.json` and returns "done", "stopped" or "failed"; a done run is left as it is.

    A stopped run resumes. `stop()` is called between steps. processes: those of the run, where there are several; a run
    that does not end as done ends them all. The reason of a failure is in state.json, its traceback in log.txt. Raises
    lease.Held where another process has the run.
    """
    with _no_garbage_collection():
        from mixmae.training.processes import Ending, Processes

    processes = processes or Processes()
    with run.lease() as lease, _logging_to(run.path / "log.txt"):
        state, trackers = _State(run, lease), Trackers(run, resources.track)
        ended: str | None = "stopped"
        try:
            if run.read("result") is None:
                state.start()
                with processes.watched(state.end):
                    result = _result(run, resources, stop, state, processes, trackers)
                lease.check()
                run.commit(result.figures, result.files)
            ended = _done(run, state)
        except Lost as error:
            processes.ends(Ending("failed", cause_of(error), str(error)), error)
            log.error("%s", error)
            ended = None  # the trackers too belong to the process that took the run over
        except KeyboardInterrupt:
            state.end(Ending("stopped", Cause.SIGNAL, "interrupted; goes on from its last checkpoint"))
            raise
        except Exception as error:
            ended = _ended_early(error, state, processes)
        finally:
            trackers.close(ended)
        return ended or "failed"


def follow(resources: Resources, stop: Callable[[], bool], processes: "Processes") -> str:
    """Computes along with rank 0, run after run, and returns "done" when there is nothing more. Where something ends
    this rank, reports it to rank 0, which records it, and returns "stopped" or "failed"."""
    import torch

    torch.set_num_threads(resources.threads)
    try:
        while (place := processes.broadcast(None)) is not None:
            run = RunFolder(Path(place["root"]), place["stage"], place["id"])
            _compute(run, resources, stop, _UNLEASED, processes, Trackers(run, ()))
        processes.leave()
    except Exception as error:
        ending = processes.ends(_ending_of(error), error)
        print(f"process {processes.rank} ends: {ending.state}: {ending.reason}", file=sys.stderr, flush=True)
        return ending.state
    return "done"


def _nothing(**_: object) -> None:
    pass


@dataclass(frozen=True)
class _Leased:
    """What the process that holds a run's lease does besides training: it reports progress, and checks the lease before
    anything is saved."""

    report: Callable[..., None]
    check: Callable[..., None]


_UNLEASED = _Leased(_nothing, _nothing)
"""What the other processes do: neither."""


def _done(run: RunFolder, state: "_State") -> str:
    from mixmae.training.checkpoints import remove_steps

    remove_steps(run.checkpoints)
    state.done()
    return "done"


def _result(
    run: RunFolder,
    resources: Resources,
    stop: Callable[[], bool],
    state: "_State",
    processes: "Processes",
    trackers: Trackers,
) -> "Outcome":
    import torch

    torch.set_num_threads(resources.threads)
    job = _check_config(run)
    record_environment(run, resources, processes, plugins_of(job))
    processes.broadcast({"root": str(run.root), "stage": run.stage, "id": run.id})
    outcome = _compute(run, resources, stop, _Leased(state.report, state.lease.check), processes, trackers)
    _check_figures(job, outcome.figures)
    if job.spec.measures:
        state.measured(outcome.figures.get(job.spec.main.name))
    return outcome


def _check_figures(job: StageJob, figures: Mapping[str, Any]) -> None:
    """Raises ValueError where a metric of the job's stage is missing or no number, or the main one is not finite."""
    for metric in job.spec.metrics:
        if metric.name not in figures:
            there = ", ".join(figures) or "nothing"
            raise ValueError(f"{job.stage} returned {there}, and not {metric.name}, which is one of its metrics")
        value = figures[metric.name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (metric == job.spec.main and not math.isfinite(value)):
            raise ValueError(f"{job.stage} returned {value!r:.60} as {metric.name}, which is no number; write float(…)")


def _compute(
    run: RunFolder,
    resources: Resources,
    stop: Callable[[], bool],
    leased: "_Leased",
    processes: "Processes",
    trackers: Trackers,
) -> "Outcome":
    from mixmae.training.session import Session

    config = run.read("config")
    assert config is not None, "rank 0 has checked it"
    job = job_of(config["job"])
    if not processes.leads:  # rank 0 knows them since it computed the fingerprint
        sources[job.data.name].recall(job.data, run.root)
    place = f"{processes.device}, {resources.threads} threads" + (
        f", {processes.count} processes" * (processes.count > 1)
    )
    log.info("%s %s on %s", job.stage, run.id, place)
    session = Session(run, job.spec.main.name, resources, processes, stop, leased.report, leased.check, trackers)
    with _no_garbage_collection():
        train = resolve(job.spec.run)
    return train(session, job)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For imports: Python would look through all that torch and timm make, again and again, for a second of nine."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_config(run: RunFolder) -> StageJob:
    """Returns the job. Raises where the config is missing, damaged or another run's, or where the data has changed
    since planning."""
    config = run.read("config")
    if config is None:
        raise FileNotFoundError(f"{run.path / 'config.json'}: missing; plan the run again")
    job = job_of(config["job"])
    fingerprint = sources[job.data.name].fingerprint(job.data, run.root)
    if fingerprint != config["data_fingerprint"]:
        what = f"planned with fingerprint {config['data_fingerprint']}, now {fingerprint}"
        raise DataChanged(f"the data has changed: {what}; plan again")
    if job_id(job, fingerprint) != run.id:
        raise ValueError(f"{run.path / 'config.json'}: altered, or another run's (its id is not {run.id}); plan again")
    return job


class DataChanged(ValueError):
    """The data is no longer what the run was planned with."""

    cause = Cause.BAD_DATA


def _ending_of(error: Exception) -> "Ending":
    """Returns how an exception ends the run."""
    from mixmae.training.processes import Ending
    from mixmae.training.session import Stopped

    stopped = isinstance(error, Stopped)
    return Ending("stopped" if stopped else "failed", cause_of(error), _reason(error, stopped))


def _ended_early(error: Exception, state: "_State", processes: "Processes") -> str:
    """Records how `error` ends the run, and returns that state."""
    state.give_room()
    ending = processes.ends(_ending_of(error), error)
    if ending.state == "failed":
        for line in ending.trace.splitlines():
            log.error(line)
    try:
        state.end(ending)
    except OSError as unwritten:  # a full disk, which may be what ended the run
        log.critical("%s: %s; state.json does not say so: %s", ending.state, ending.reason, unwritten)
    return ending.state


def _reason(error: Exception, stopped: bool) -> str:
    """Returns the error's message as one line."""
    lines = str(error).strip().splitlines() or ["no message"]
    if _came_from_a_loading_process(lines):
        return lines[-1].removeprefix("ValueError: ")
    if isinstance(error, ValueError) or stopped:
        return " ".join(lines)  # a file's name may hold line breaks
    return f"{type(error).__name__}: {lines[0]}"


def _came_from_a_loading_process(lines: list[str]) -> bool:
    """Whether torch raised the error again for a data loading process: its message is then that process's traceback,
    whose last line is the error."""
    return "DataLoader worker" in lines[0]


class _State:
    """Writes state.json, which no other process writes."""

    def __init__(self, run: RunFolder, lease: Lease):
        self._run, self.lease, self._room = run, lease, run.path / ".room"
        known = run.recovered("state")
        names = ("epoch", "epochs", "loss", "metric", "node", "pid")
        self._data: dict[str, Any] = {
            "state": None,
            "cause": None,
            "reason": None,
            **{name: known.get(name) for name in names},
        }
        self._data["tries"] = known.get("tries", 0)
        self._written_at = 0.0

    def start(self) -> None:
        self._data.update(node=node(), pid=os.getpid(), tries=self._data["tries"] + 1)
        self._write(state="running", cause=None, reason=None)
        with naming(self._room):
            self._room.write_bytes(os.urandom(ROOM))

    def give_room(self) -> None:
        """Frees the reserved bytes."""
        with suppress(OSError):  # gone already, or read-only by now
            self._room.unlink()

    def report(self, epoch: int, epochs: int, loss: float | None, metric: float | None) -> None:
        if metric is not None:  # else the last one that was measured stays
            self._data["metric"] = metric
        self._data.update(epoch=epoch, epochs=epochs, loss=loss)
        if time.monotonic() - self._written_at >= REPORT_EVERY_S:
            self._write()

    def measured(self, metric: float | None) -> None:
        """Notes the main figure of an evaluation that has reported none on its way."""
        if self._data["metric"] is None:
            self._data["metric"] = metric

    def end(self, ending: "Ending") -> None:
        self.give_room()
        self._write(state=ending.state, cause=ending.cause, reason=ending.reason)
        log.info("%s: %s", ending.state, ending.reason)

    def done(self) -> None:
        self.give_room()
        self._write(state="done", cause=None, reason=None)
        log.info("done")

    def _write(self, **changed: Any) -> None:
        self._data.update(changed)
        self.lease.check()
        self._run.write("state", self._data)
        self._written_at = time.monotonic()


class _LogFile(logging.FileHandler):
    """Drops lines that a full disk cannot take, instead of ending the run; standard error shows them too."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Sends what `mixmae` logs to `path`, with the time, and to standard error, without."""
    to_file = _LogFile(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("mixmae")
    level = logger.level
    logger.setLevel(logging.INFO)
    for handler in (to_file, to_terminal):
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in (to_file, to_terminal):
            logger.removeHandler(handler)
        to_file.close()
        logger.setLevel(level)
