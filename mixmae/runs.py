"""The run folder, shared by writers and readers: its layout, states, lease and atomic JSON (no torch).

`ROOT/<stage>/<id>/` holds `config.json` (the stage job), `environment.json`, `launch.json` (written by the launcher
alone), `state.json` (by the job alone), `metrics.jsonl` and `result.json` (repeatable bit for bit), `timing.jsonl` (all
that depends on the clock) and `checkpoints/`. Nothing in it holds an absolute path to another run.
"""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mixmae.cause import Cause, recorded_cause
from mixmae.lease import Lease, is_held, take
from mixmae.retrying import naming, retried
from mixmae.scheduler import listed

log = logging.getLogger(__name__)

SCHEMA = 1
CHECKSUM = "checksum"
"""The last key of every JSON document written here: a hash of the rest. Older documents have none."""
DIGITS = 16
ADVICE = {
    "config": "mixmae run or mixmae grid run writes it anew",
    "launch": "mixmae grid retry writes it anew",
    "state": "mixmae run or mixmae grid retry writes it anew",
    "environment": "running the job again writes it anew",
    "result": "put a copy back, or remove the run's folder and run it again",
}
"""What to do about a damaged document of a run folder."""
STATES = ("planned", "waiting", "pending", "running", "stopped", "done", "failed", "blocked", "cancelled")


class NewerSchema(ValueError):
    """The file was written by a newer version of this program."""


class Damaged(ValueError):
    """The file does not hold what was once written to it; the message begins with its path."""


def default_root() -> Path:
    """`MIXMAE_ROOT`, else `runs/` in the working directory."""
    return Path(os.environ.get("MIXMAE_ROOT") or "runs")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write(temporary)` in the same folder, flushes, renames: `path` is the old or the new, never half.

    Tried again where the file system fails for a moment. Raises OSError naming `path` where it cannot be written.
    """
    retried(lambda: _write_once(path, write))


def _write_once(path: Path, write: Callable[[Path], None]) -> None:
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~UMASK)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


UMASK = _umask()
"""Of this process; asked for once, since asking changes it for a moment, which other threads would notice."""


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """`data` with its checksum."""
    return {**data, CHECKSUM: _checksum(data)}


def _checksum(data: dict[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=DIGITS // 2).hexdigest()


def _unsealed(content: bytes) -> dict[str, Any]:
    """The object in `content`, its checksum checked and left out. Raises ValueError where it is not what was sealed."""
    data = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    if isinstance(schema := data.get("schema"), int) and schema > SCHEMA:
        raise NewerSchema(f"schema {schema}, this version reads up to {SCHEMA}; upgrade mixmae")
    last = next(reversed(data.values()), None)
    found = data.pop(CHECKSUM, None)
    if found is not None:
        if found != _checksum(data):
            raise ValueError("its checksum is another")
    elif isinstance(last, str):  # no older document ends in a string
        raise ValueError("its checksum has lost its name")
    return data


def document_of(data: dict[str, Any]) -> str:
    """The text of a `.json` file."""
    return json.dumps(sealed({"schema": SCHEMA, **data}), indent=1, ensure_ascii=False) + "\n"


def write_json(path: Path, data: dict) -> None:
    text = document_of(data)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """The document at `path`, without its checksum.

    Raises FileNotFoundError, Damaged where it is not what was written, or NewerSchema where a newer version wrote it.
    """
    content = retried(path.read_bytes)
    try:
        return _unsealed(content)
    except NewerSchema as error:
        raise NewerSchema(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: damaged ({error})") from error


def line_of(data: dict[str, Any]) -> str:
    """One line of a `.jsonl` file."""
    return json.dumps(sealed(data)) + "\n"


def read_lines(path: Path) -> list[dict]:
    """The objects of a `.jsonl` file, one a line; none where there is no file. A half-written line is left.

    Raises Damaged naming the line that is not what was written.
    """
    lines, damaged = whole_lines(path)
    if damaged:
        raise Damaged(f"{path}:{damaged[0]}: damaged; going on with the run, or running it anew, writes the file again")
    return lines


def whole_lines(path: Path) -> tuple[list[dict], list[int]]:
    """The objects of a `.jsonl` file that are what was written, and the numbers, from 1, of the lines that are not."""
    try:
        content = retried(path.read_bytes)
    except FileNotFoundError:
        return [], []
    found = content.split(b"\n")[:-1]
    if all(map(_is_plain_and_whole, found)):
        return [_without_checksum(data) for data in json.loads(b"[" + b",".join(found) + b"]")], []
    lines, damaged = [], []
    for number, line in enumerate(found, start=1):
        try:
            lines.append(_unsealed(line))
        except ValueError:
            damaged.append(number)
    return lines, damaged


def _is_plain_and_whole(line: bytes) -> bool:
    """Whether `line` is what `line_of` wrote of plain names and values: seen without parsing, in a fifth of the time.

    Its parts, sorted and without their spaces, are then what was hashed. Of lists, objects and texts with such spaces
    they are not: False says nothing.
    """
    *parts, seal = line[1:-1].split(b", ")
    text = b"{" + b",".join(sorted(parts)) + b"}"
    if text.count(b": ") != len(parts) or not (line.startswith(b"{") and line.endswith(b"}")):
        return False
    found = hashlib.blake2b(text.replace(b": ", b":"), digest_size=DIGITS // 2).hexdigest()
    return seal == f'"{CHECKSUM}": "{found}"'.encode()


def _without_checksum(data: dict[str, Any]) -> dict[str, Any]:
    del data[CHECKSUM]
    return data


def sha256(path: Path) -> str:
    """64 hex digits of the file's content."""

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return retried(digest)


@dataclass(frozen=True)
class RunFolder:
    root: Path
    stage: str
    id: str

    @cached_property
    def path(self) -> Path:
        return self.root / self.stage / self.id

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def weights(self) -> Path:
        """The final weights of a run that trains, written when it is done."""
        return self.checkpoints / "final.safetensors"

    def read(self, name: str) -> dict[str, Any] | None:
        """`config`, `state`, `launch`, `result` or `environment`; None where it is not written yet. Raises Damaged."""
        try:
            return read_json(self.path / f"{name}.json")
        except FileNotFoundError:
            return None
        except Damaged as error:
            raise Damaged(f"{error}; {ADVICE[name]}") from None

    def recovered(self, name: str) -> dict[str, Any]:
        """A document that this program can write anew: {} where there is none, and, the file put aside under another
        name and a warning given, where it is damaged."""
        path = self.path / f"{name}.json"
        try:
            return self.read(name) or {}
        except Damaged as error:
            aside = path.with_name(f"{path.name}.damaged")
            log.warning("%s; kept as %s and written anew", error, aside.name)
            path.replace(aside)
            return {}

    def write(self, name: str, data: dict) -> None:
        write_json(self.path / f"{name}.json", data)

    def commit(self, result: dict) -> None:
        """Writes `result.json`, which makes the run done: the figures, and under "files" the sha256 of what else the
        run leaves behind."""
        written = [path for path in (self.metrics, self.weights) if path.exists()]
        files = {path.relative_to(self.path).as_posix(): sha256(path) for path in written}
        self.write("result", {**result, "files": files})

    def check(self, path: Path) -> None:
        """Raises Damaged where `path`, of a run that is done, is not the file that `result.json` names."""
        result, advice = self.read("result"), f"put a copy back, or remove {self.path} and run it again"
        if result is None:
            raise Damaged(f"{self.path / 'result.json'}: missing, of a run that is done; {advice}")
        wanted = result.get("files", {}).get(path.relative_to(self.path).as_posix())
        if wanted is None:
            return
        if not path.is_file():
            raise Damaged(f"{path}: missing; {advice}")
        if (found := sha256(path)) != wanted:
            raise Damaged(f"{path}: damaged or changed (sha256 {found}, result.json says {wanted}); {advice}")

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Holds the run for this process. Raises Held."""
        found = take(self.path, listed)
        try:
            yield found
        finally:
            found.release()

    def is_held(self) -> bool:
        """Whether a process runs it."""
        return is_held(self.path, self.root)


def newest_step(run: RunFolder) -> int:
    """Of its newest checkpoint within an unfinished training; -1 where there is none."""
    steps = (re.fullmatch(r"step-(\d+)\.pt", path.name) for path in run.checkpoints.glob("step-*.pt"))
    return max((int(found[1]) for found in steps if found), default=-1)


def all_runs(root: Path) -> Iterator[RunFolder]:
    """Every run folder under `root`, by stage and id."""
    for config in sorted(root.glob("*/*/config.json")):
        yield RunFolder(root, config.parent.parent.name, config.parent.name)


@dataclass(frozen=True)
class RunState:
    """What `state.json` and `launch.json` together say of a run."""

    state: str
    cause: Cause | None = None
    """Why, for programs."""
    reason: str | None = None
    """Why, in a sentence for people."""
    queued: str | None = None
    """Why the scheduler has not started it, in the scheduler's own word."""
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    metric: float | None = None
    node: str | None = None
    tries: int = 0


def run_state(run: RunFolder, needs: RunState | None = None) -> RunState:
    """The state of `run`; `needs` is that of the pretraining it waits for, where it waits for one.

    `launch.json` asks for `tries` starts; `state.json` counts the starts made. A failed or stopped run that is asked
    for once more is pending again. One with a damaged file has failed.
    """
    try:
        launch, state = run.read("launch") or {}, run.read("state") or {}
        if state.get("state") == "done":
            run.read("result")
    except Damaged as error:
        return RunState("failed", Cause.DAMAGED, reason=str(error))
    return state_by(launch, state, run.is_held, needs)


def state_by(
    launch: dict[str, Any], state: dict[str, Any], is_held: Callable[[], bool], needs: RunState | None
) -> RunState:
    """`run_state` by the contents of `launch.json` and `state.json`, {} where there is none."""
    said = {name: state.get(name) for name in ("epoch", "epochs", "loss", "metric", "node")}
    said |= {"tries": state.get("tries", 0)}
    name, why = state.get("state"), {"cause": recorded_cause(state), "reason": state.get("reason")}
    if name == "running" and not is_held():
        name, why = "stopped", {"cause": Cause.KILLED, "reason": "its process died"}
    if name in ("running", "done"):
        return RunState(name, **why, **said)
    if launch.get("cancelled"):
        return RunState("cancelled", cause=Cause.CANCELLED, reason="grid cancel", **said)
    if name and launch.get("tries", 0) <= said["tries"]:
        return RunState(name, **why, **said)
    if needs and needs.state in ("failed", "blocked", "cancelled"):
        return RunState("blocked", cause=Cause.DEPENDENCY, reason=f"its pretraining: {needs.state}", **said)
    if not launch:
        return RunState(name or "planned", **why, **said)
    waits = needs and needs.state != "done"
    return RunState("waiting" if waits else "pending", **said)
