"""What a launcher writes into run folders (no torch)."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mixmae.experiment.jobs import PlannedJob
from mixmae.experiment.plugins import others, plugins_of
from mixmae.fields.texts import many
from mixmae.files.records import Damaged
from mixmae.runs.folder import RunFolder

T = TypeVar("T")


WRITERS = 16


STARTED_ANEW = ("planned", "waiting", "pending", "stopped", "blocked", "cancelled")
"""The states that running a grid starts from: not what is done, runs elsewhere, or failed (which `retry` queues)."""


# ------------------------------------------------------------------------------------------------------------ writing


def create_run(root: Path, planned: PlannedJob) -> RunFolder:
    """The run folder with its `config.json`, written anew where what is only recorded (such as paths) has changed; of a
    run that is done, the plug-ins stay those that computed it."""
    run = RunFolder(root, planned.stage, planned.id)
    config: dict[str, Any] = {
        "id": planned.id,
        "data_fingerprint": planned.fingerprint,
        "job": planned.job.model_dump(mode="json"),
    }
    before = run.recovered("config")
    plugins = before.get("plugins", []) if before and run.has_result() else plugins_of(planned.job)
    if plugins:
        config["plugins"] = plugins
    if {**before, "schema": None} != {**config, "schema": None}:
        run.write("config", config)
    return run


def computed_by_others(root: Path, jobs: Iterable[PlannedJob]) -> list[str]:
    """What is to be said of runs that are done and whose plug-ins are no longer those that computed them."""
    runs: Counter[tuple[str, str, str]] = Counter()
    unread: list[str] = []
    for planned in jobs:
        run = RunFolder(root, planned.stage, planned.id)
        if (plugins := plugins_of(planned.job)) and run.has_result():
            try:
                runs.update(others(plugins, (run.read("config") or {}).get("plugins", [])))
            except Damaged as error:
                unread.append(str(error))
    return unread + [
        f"{many(count, 'done run')} of {name} used {then}; it is now {now}: raise its version if it computes "
        "something else"
        for (name, then, now), count in runs.items()
    ]


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
