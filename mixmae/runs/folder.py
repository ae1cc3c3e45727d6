"""The run folder: where its files lie, how they are read, written and checked, and who holds it (no torch).

`ROOT/<stage>/<id>/` holds `config.json` (the stage job), `environment.json`, `launch.json` (written by the launcher
alone), `state.json` (by the job alone), `metrics.jsonl`, `predictions.safetensors` and `result.json` (repeatable bit
for bit), `timing.jsonl` (all that depends on the clock) and `checkpoints/`. Nothing in it holds an absolute path to
another run.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mixmae.files.records import Damaged, log, read_json, sha256, write_json
from mixmae.runs.lease import Lease, is_held, take
from mixmae.runs.scheduler import listed

ADVICE = {
    "config": "mixmae run or mixmae grid run writes it anew",
    "launch": "mixmae grid retry writes it anew",
    "state": "mixmae run or mixmae grid retry writes it anew",
    "environment": "running the job again writes it anew",
    "result": "put a copy back, or remove the run's folder and run it again",
}
"""What to do about a damaged document of a run folder."""


def default_root() -> Path:
    """`MIXMAE_ROOT`, else `runs/` in the working directory."""
    return Path(os.environ.get("MIXMAE_ROOT") or "runs")


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

    @property
    def predictions(self) -> Path:
        """What an evaluation predicted of each image, where it keeps that."""
        return self.path / "predictions.safetensors"

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns the document `config`, `state`, `launch`, `result` or `environment`; None where it is not written
        yet. Raises Damaged."""
        try:
            return read_json(self.path / f"{name}.json")
        except FileNotFoundError:
            return None
        except Damaged as error:
            raise Damaged(f"{error}; {ADVICE[name]}") from None

    def recovered(self, name: str) -> dict[str, Any]:
        """Returns a document that this program can write anew; {} where there is none. A damaged one is renamed, with a
        warning, and counts as none."""
        path = self.path / f"{name}.json"
        try:
            return self.read(name) or {}
        except Damaged as error:
            aside = path.with_name(f"{path.name}.damaged")
            log.warning("%s; kept as %s and written anew", error, aside.name)
            path.replace(aside)
            return {}

    def has_result(self) -> bool:
        """Whether the run is done: nothing of what computed it changes any more."""
        return (self.path / "result.json").exists()

    def write(self, name: str, data: dict[str, Any]) -> None:
        write_json(self.path / f"{name}.json", data)

    def commit(self, figures: dict[str, Any], more: Iterable[Path] = ()) -> None:
        """Writes `result.json`, which makes the run done: the figures, and under "files" the sha256 of the other files
        that the run leaves: its metrics, its weights and `more`."""
        written = [*(path for path in (self.metrics, self.weights) if path.exists()), *more]
        files = {path.relative_to(self.path).as_posix(): sha256(path) for path in written}
        self.write("result", {**figures, "files": files})

    def check(self, path: Path) -> None:
        """Raises Damaged where `path`, of a run that is done, is not the file that `result.json` names."""
        result = self.read("result")
        if result is None:
            raise Damaged(f"{self.path / 'result.json'}: missing, of a run that is done; {self._advice}")
        self.check_against(result, path)

    @property
    def _advice(self) -> str:
        return f"put a copy back, or remove {self.path} and run it again"

    def check_against(self, result: dict[str, Any], path: Path) -> None:
        """Raises Damaged where `path` is not the file that `result`, which result.json holds, names."""
        wanted = result.get("files", {}).get(path.relative_to(self.path).as_posix())
        if wanted is None:
            return
        if not path.is_file():
            raise Damaged(f"{path}: missing; {self._advice}")
        if (digest := sha256(path)) != wanted:
            raise Damaged(f"{path}: damaged or changed (sha256 {digest}, result.json says {wanted}); {self._advice}")

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Holds the run for this process. Raises Held."""
        lease = take(self.path, listed)
        try:
            yield lease
        finally:
            lease.release()

    def is_held(self) -> bool:
        """Whether a process runs this run now."""
        return is_held(self.path, self.root)


def newest_step(run: RunFolder) -> int:
    """Returns the step of the newest checkpoint of an unfinished training; -1 where there is none."""
    names = (re.fullmatch(r"step-(\d+)\.pt", path.name) for path in run.checkpoints.glob("step-*.pt"))
    return max((int(match[1]) for match in names if match), default=-1)


def all_runs(root: Path) -> Iterator[RunFolder]:
    """Yields every run folder under `root`, ordered by stage and id."""
    for config in sorted(root.glob("*/*/config.json")):
        yield RunFolder(root, config.parent.parent.name, config.parent.name)
