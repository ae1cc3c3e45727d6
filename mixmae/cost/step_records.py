"""Records of the steps of a grid's pretrainings: a budget of hours becomes epochs by them, and they say what memory a
step takes (no torch).

A record is of one process on one machine: JSON with `processor`, `device`, `resources` (threads and so on), `torch`,
`measured` (a date), `load` (of the machine just before) and `steps`, each with the `step` that names it, the median
`seconds`, those of every round, and `peak_memory` in bytes, which older records lack. It is written by `mixmae bench
grid FILE --output RECORD`, and lies beside the grid.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mixmae.cost.measured import processor
from mixmae.fields.identity import canonical, computed
from mixmae.fields.texts import many
from mixmae.files.records import write_atomically

LEAST_ROUNDS = 5
IDLE = 0.5
"""The load (processes that want to run) up to which a machine counts as idle."""


class NotIdle(ValueError):
    """Something else runs on this machine."""


def idle_load() -> float:
    """The load of this machine over the last minute. Raises NotIdle where it is too high to measure anything."""
    load = os.getloadavg()[0]
    if load > IDLE:
        what = f"this machine is not idle (load {load:.1f} over the last minute, at most {IDLE:g} counts as idle)"
        raise NotIdle(f"{what}: end what else runs on it, wait a minute, and measure again")
    return load


class NoRecord(ValueError):
    """The step was not measured, or not so that it can be used; the message says what to run."""


OF_NO_STEP = {
    *("epochs", "base_lr", "base_batch", "min_lr", "warmup_lr", "warmup_epochs", "warmup_steps", "schedule"),
    *("decay_epochs", "decay_rate", "betas", "weight_decay", "no_decay", "subset"),
}
"""Fields of a recipe that change what is computed, and not how long a step takes."""


def step_name(job: Any, resources: Mapping[str, Any]) -> str:
    """16 hex digits naming the step of a pretraining: all of its config that may change how long a step takes.
    resources: what of the resources does, such as threads."""
    plain = computed(type(job), job.model_dump(mode="json", exclude={"seed", "perturb"}))
    recipe = {name: value for name, value in plain["recipe"].items() if name not in OF_NO_STEP}
    data = {name: value for name, value in plain["data"].items() if name != "tuning"}
    text = canonical({**plain, "recipe": recipe, "data": data, "resources": resources})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StepRecord:
    path: Path
    document: dict[str, Any]

    def seconds(self, job: Any, resources: Mapping[str, Any]) -> float:
        """The median of a step of the job with such resources. Raises NoRecord."""
        threads = many(resources["threads"], "thread")
        what = f"{job.method.name} on {job.encoder.label}, batch {job.recipe.batch}, {threads}"
        found = self._step(job, resources)
        if found is None:
            raise NoRecord(f"{self.path} has no step of {what}; {self._measure()}")
        if len(found["rounds"]) < LEAST_ROUNDS:
            raise NoRecord(f"{self.path} has {many(len(found['rounds']), 'round')} of {what}; {self._measure()}")
        if self.document["load"] > IDLE:
            what = f"was measured on a machine that was not idle (load {self.document['load']:.1f})"
            raise NoRecord(f"{self.path} {what}; {self._measure()}")
        return float(median(found["rounds"]))

    def peak_memory(self, job: Any, resources: Mapping[str, Any]) -> int | None:
        """Bytes that a step of the job takes with such resources; None where the record does not tell."""
        found = self._step(job, resources)
        return None if found is None else found.get("peak_memory")

    def _step(self, job: Any, resources: Mapping[str, Any]) -> dict[str, Any] | None:
        name = step_name(job, resources)
        return next((step for step in self.document["steps"] if step["step"] == name), None)

    def _measure(self) -> str:
        return f"measure it on the machine that is meant: {measuring(self.path)}"

    def of_memory(self, peak: int | None) -> str:
        """What is to be known of the memory of a step, or of its being unknown."""
        if peak is None:
            return f"{self.path.name} does not tell the memory of each step; {self._measure()}"
        where = f"{self.document['device']}, {self.document['measured']}"
        return f"memory is the most that torch had allocated in a step, by {self.path.name}: {where}"

    def of_hours(self) -> tuple[str, ...]:
        """What is to be known of its hours."""
        own = self.document["processor"]
        notes = [f"hours are those of {self.path.name}: {own}, {self.document['measured']}"]
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
        wanted: dict[str, Any] = {"processor": str, "device": str, "measured": str, "load": int | float}
        wrong = [name for name, kind in wanted.items() if not isinstance(document[name], kind)]
        wrong += ["step" for step in document["steps"] if not isinstance(step.get("step"), str)]
        wrong += ["rounds" for step in document["steps"] if not _are_seconds(step.get("rounds"))]
        wrong += ["peak_memory" for step in document["steps"] if not _is_bytes(step.get("peak_memory"))]
    except FileNotFoundError:
        raise NoRecord(f"no file {path}; measure it on the machine that is meant: {measuring(path)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoRecord(f"{path} is no record of steps ({error}); write one with: {measuring(path)}") from None
    if wrong:
        raise NoRecord(f"{path} is no record of steps ({', '.join(wrong)}); write one with: {measuring(path)}")
    return StepRecord(path, document)


def _are_seconds(rounds: Any) -> bool:
    return isinstance(rounds, list) and all(
        isinstance(one, int | float) and math.isfinite(one) and one > 0 for one in rounds
    )


def _is_bytes(peak: Any) -> bool:
    """None, in older records, too."""
    return peak is None or (type(peak) is int and peak > 0)


def write_step_record(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))
