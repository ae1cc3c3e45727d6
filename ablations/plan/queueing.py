"""What a launcher writes into run folders (no torch)."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mixmae.experiment.jobs import PlannedJob
from mixmae.experiment.plugins import plugins_of
from mixmae.runs.folder import RunFolder

T = TypeVar("T")


WRITERS = 16


STARTED_ANEW = ("planned", "waiting", "pending", "stopped", "blocked", "cancelled")
"""The states that running a grid starts from: not what is done, runs elsewhere, or failed (which `retry` queues)."""


# ------------------------------------------------------------------------------------------------------------ writing


def create_run(root: Path, planned: PlannedJob) -> RunFolder:
    """The run folder with its `config.json`, written anew where what is only recorded (such as paths) has changed."""
    run = RunFolder(root, planned.stage, planned.id)
    config: dict[str, Any] = {
        "id": planned.id,
        "data_fingerprint": planned.fingerprint,
        "job": planned.job.model_dump(mode="json"),
    }
    if plugins := plugins_of(planned.job):
        config["plugins"] = plugins
    if {**run.recovered("config"), "schema": None} != {**config, "schema": None}:
        run.write("config", config)
    return run


def queue(run: RunFolder) -> None:
    """Asks for one more start of the run. Damaged files that can be written anew are put aside."""
    tries = run.recovered("state").get("tries", 0)
    run.write("launch", {"tries": tries + 1, "cancelled": False})


def withdraw(run: RunFolder) -> None:
    """Takes a run that was not started out of the queue: it is what it was before. A retry stays asked for."""
    state = run.recovered("state")
    if not state:
        (run.path / "launch.json").unlink()
    elif state["state"] != "failed":
        run.write("launch", {"tries": state["tries"], "cancelled": False})


def cancel(run: RunFolder) -> None:
    """Marks the run as not to be started."""
    run.write("launch", {"tries": 0, **run.recovered("launch"), "cancelled": True})


def for_each(action: Callable[[T], object], items: Iterable[T]) -> None:
    """Calls `action` on every item, WRITERS at once: what writes to run folders mostly waits for the disk."""
    with ThreadPoolExecutor(WRITERS) as writers:
        for _ in writers.map(action, items):
            pass
