"""Records of the steps of a grid's pretrainings, by which a budget of hours becomes epochs (no torch).

A record is of one machine: JSON with `processor`, `device`, `threads`, `torch`, `measured` (a date), `load` (of the
machine just before) and `steps`, each with the `step` that names it, the median `seconds` and those of every round. It
is written by `mixmae bench grid FILE --output RECORD`, and lies beside the grid.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mixmae.cost.measured import processor
from mixmae.fields.identity import canonical, computed
from mixmae.fields.texts import many

LEAST_ROUNDS = 5
IDLE = 0.5
"""The load (processes that want to run) up to which a machine counts as idle."""


class NoRecord(ValueError):
    """The step was not measured, or not so that it can be used; the message says what to run."""


def step_of(job: Any) -> dict[str, Any]:
    """What decides how long a step of a pretraining takes."""
    plain = computed(type(job), job.model_dump(mode="json"))
    recipe = {name: plain["recipe"].get(name) for name in ("batch", "chunk", "precision")}
    return {"method": plain["method"], "encoder": plain["encoder"], "image_size": plain["image_size"], **recipe}


def step_name(job: Any) -> str:
    """16 hex digits naming the step of a pretraining."""
    return hashlib.sha256(canonical(step_of(job)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StepRecord:
    path: Path
    document: dict[str, Any]

    def seconds(self, job: Any, threads: int) -> float:
        """The median of a step of the job on so many threads. Raises NoRecord."""
        what = f"{job.method.name} on {job.encoder.label}, batch {job.recipe.batch}, {many(threads, 'thread')}"
        found = next((step for step in self.document["steps"] if step["step"] == step_name(job)), None)
        if found is None or self.document["threads"] != threads:
            raise NoRecord(f"{self.path} has no step of {what}; {self._measure()}")
        if len(found["rounds"]) < LEAST_ROUNDS:
            raise NoRecord(f"{self.path} has {many(len(found['rounds']), 'round')} of {what}; {self._measure()}")
        return float(median(found["rounds"]))

    def _measure(self) -> str:
        return f"measure it on the machine that is meant: {measuring(self.path)}"

    def notes(self) -> tuple[str, ...]:
        """What is to be known of it."""
        own, load = self.document["processor"], self.document["load"]
        notes = [f"hours are those of {self.path.name}: {own}, {self.document['measured']}"]
        if load > IDLE:
            notes.append(f"{self.path.name} was measured on a machine that was not idle (load {load:.1f})")
        if self.document["device"] == "cpu" and own != processor():
            notes.append(f"{self.path.name} is of another processor than this machine's, {processor()}")
        return tuple(notes)


def measuring(path: Path) -> str:
    """The command that writes a record."""
    return f"mixmae bench grid FILE --output {path}"


def read_step_record(path: Path) -> StepRecord:
    """Raises NoRecord where there is none, or something else."""
    try:
        document = json.loads(path.read_text("utf-8"))
        wanted: dict[str, Any] = {"processor": str, "device": str, "threads": int, "measured": str, "load": float}
        wrong = [name for name, kind in wanted.items() if not isinstance(document[name], kind)]
        wrong += [name for step in document["steps"] for name in ("step", "rounds") if name not in step]
    except FileNotFoundError:
        raise NoRecord(f"no file {path}; measure it on the machine that is meant: {measuring(path)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoRecord(f"{path} is no record of steps ({error}); write one with: {measuring(path)}") from None
    if wrong:
        raise NoRecord(f"{path} is no record of steps ({', '.join(wrong)}); write one with: {measuring(path)}")
    return StepRecord(path, document)
