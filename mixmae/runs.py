"""The run folder, shared by writers and readers: its layout, states, lease and atomic JSON (no torch).

`ROOT/<stage>/<id>/` holds `config.json` (the stage job), `environment.json`, `launch.json` (written by the launcher
alone), `state.json` (by the job alone), `metrics.jsonl` and `result.json` (repeatable bit for bit), `timing.jsonl` (all
that depends on the clock) and `checkpoints/`. Nothing in it holds an absolute path to another run.
"""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
STATES = ("planned", "waiting", "pending", "running", "stopped", "done", "failed", "blocked", "cancelled")


class NewerSchema(ValueError):
    """The file was written by a newer version of this program."""


class Held(RuntimeError):
    """Another process holds the run's lease."""


def default_root() -> Path:
    """`MIXMAE_ROOT`, else `runs/` in the working directory."""
    return Path(os.environ.get("MIXMAE_ROOT") or "runs")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write(temporary)` in the same folder, flushes, renames: `path` is the old or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, data: dict) -> None:
    text = json.dumps({"schema": SCHEMA, **data}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """The document at `path`. Raises FileNotFoundError, or NewerSchema where a newer version wrote it."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("schema", 0) > SCHEMA:
        raise NewerSchema(f"{path}: schema {data['schema']}, this version reads up to {SCHEMA}; upgrade mixmae")
    return data


def read_lines(path: Path) -> list[dict]:
    """The JSON objects of a `.jsonl` file, one a line; none where there is no file. A half-written line is left."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class RunFolder:
    root: Path
    stage: str
    id: str

    @property
    def path(self) -> Path:
        return self.root / self.stage / self.id

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The final weights of a run that trains, written when it is done."""
        return self.checkpoints / "final.safetensors"

    def read(self, name: str) -> dict[str, Any] | None:
        """`config`, `state`, `launch`, `result` or `environment`; None where it is not written yet."""
        try:
            return read_json(self.path / f"{name}.json")
        except FileNotFoundError:
            return None

    def write(self, name: str, data: dict) -> None:
        write_json(self.path / f"{name}.json", data)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Holds the run for this process; the system lets go of it however the process ends. Raises Held."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lease").open("a") as file:
            if not _locked(file, within_s=1):
                raise Held(f"{self.path} is held by another process")
            yield

    def is_held(self) -> bool:
        try:
            with (self.path / "lease").open("rb") as file:
                return not _locked(file, within_s=0)
        except FileNotFoundError:
            return False


def _locked(file, within_s: float) -> bool:
    """Tries to lock `file`, for a while since a reader asking `is_held` holds the lock for an instant."""
    end = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)


def all_runs(root: Path) -> Iterator[RunFolder]:
    """Every run folder under `root`, by stage and id."""
    for config in sorted(root.glob("*/*/config.json")):
        yield RunFolder(root, config.parent.parent.name, config.parent.name)


@dataclass(frozen=True)
class RunState:
    """What `state.json` and `launch.json` together say of a run."""

    state: str
    reason: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    metric: float | None = None
    node: str | None = None
    tries: int = 0


def run_state(run: RunFolder, needs: RunState | None = None) -> RunState:
    """The state of `run`; `needs` is that of the pretraining it waits for, where it waits for one.

    `launch.json` asks for `tries` starts; `state.json` counts the starts made. A failed or stopped run that is asked
    for once more is pending again.
    """
    launch, state = run.read("launch") or {}, run.read("state") or {}
    said = {name: state.get(name) for name in ("reason", "epoch", "epochs", "loss", "metric", "node")}
    tries = state.get("tries", 0)
    name = state.get("state")
    if name == "running" and not run.is_held():
        name, said["reason"] = "stopped", "its process ended without a word"
    if name in ("running", "done"):
        return RunState(name, tries=tries, **said)
    if launch.get("cancelled"):
        return RunState("cancelled", tries=tries, **{**said, "reason": "grid cancel"})
    if name and launch.get("tries", 0) <= tries:
        return RunState(name, tries=tries, **said)
    if needs and needs.state in ("failed", "blocked", "cancelled"):
        return RunState("blocked", tries=tries, **{**said, "reason": f"its pretraining: {needs.state}"})
    if not launch:
        return RunState(name or "planned", tries=tries, **said)
    waits = needs and needs.state != "done"
    return RunState("waiting" if waits else "pending", tries=tries, **{**said, "reason": None})
