"""One run folder as plain data: what its own files say, whatever they hold (no torch, no pandas).

Folders are read as plain JSON: they were checked when they were written, and thousands of them are read at once. But
they may be half copied, damaged, older, or no run's at all, so that nothing is taken for what it should be: every value
of a column is of its type, or the folder is `Broken`.
"""

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from mixmae.experiment.jobs import start_of
from mixmae.experiment.plugins import recall
from mixmae.experiment.stages import stages
from mixmae.fields.identity import Key, canonical
from mixmae.files.records import NewerSchema, whole_lines
from mixmae.files.retrying import retried
from mixmae.presentation.columns import ALIASES
from mixmae.presentation.row import Flat, own_recipe, row_of, stage_label
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import STATES, RunState, state_by

FILES = ("config.json", "launch.json", "state.json", "result.json", "metrics.jsonl")
"""The files of a run that are read."""
FILES_OF_COSTS = ("environment.json", "timing.jsonl")
"""The files that are read too of a run that trains an encoder, for its hours and device."""

PATHS = {
    "encoder": "encoder.name",
    "seed": "seed",
    "data": "data.name",
    "image_size": "image_size",
    **{name: alias.path for name, alias in ALIASES.items() if alias.path.startswith("method.")},
    "method": "method",
    "pretrain_epochs": "pretrain.epochs",
    "weights": "weights",
    "labels_per_class": "evaluation.subset.labels_per_class",
    "fraction": "evaluation.subset.fraction",
    "pretrain_labels_per_class": "pretrain.subset.labels_per_class",
    "pretrain_fraction": "pretrain.subset.fraction",
    "features": "evaluation.features",
    "epochs": "evaluation.epochs",
}
"""The columns of a collected frame that are paths of a row."""

TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("encoder", "data", "fill", "method", "weights", "features", "image_size"), str),
    **dict.fromkeys(("ratio", "fraction", "pretrain_fraction", "top1", "top5", "loss"), (int, float)),
    **dict.fromkeys(("dual", "masked_attention", "mix_embedding", "normalised_target"), bool),
    **dict.fromkeys(
        ("seed", "pretrain_epochs", "images", "decoder_depth", "decoder_width", "mask_unit", "labels_per_class",
         "pretrain_labels_per_class", "epochs", "pretrain_images"), int,
    ),
    **dict.fromkeys(("data_fingerprint", "pretraining", "reason", "pretrain_device"), str),
    "pretrain_hours": (int, float),
}  # fmt: skip
"""The types that the values of columns have as they are read."""


class Broken(ValueError):
    """A folder that is not read as a run; the message says why."""


@dataclass(slots=True, eq=False)
class Read:
    """A run as its folder describes it.

    config: the job without seed and start, with the data's fingerprint, as canonical JSON; repetitions share it.
    start: the run that it starts from. figures: result.json without the hashes of files, as canonical JSON. hours,
    device: of a run that trains an encoder, where they are known. standing: of a run that is not done, what its state
    follows from: launch.json, state.json, and whether a process holds it.
    """

    stage: str
    id: str
    seed: int
    config: str
    start: Key | None
    state: str = "done"
    reason: str | None = None
    figures: str = "{}"
    hours: float | None = None
    device: str | None = None
    plugins: str | None = None
    """What its config says of plug-ins, as canonical JSON; None: it needs none."""
    standing: tuple[dict[str, Any], dict[str, Any], bool] | None = None
    root: str = ""
    where: str = ""
    """How a problem names it."""

    @property
    def key(self) -> Key:
        return self.stage, self.id

    def stand(self, start: RunState | None) -> RunState:
        """Its state, given that of what it starts from, which is also set here. Raises Broken."""
        if self.standing is None:
            return RunState(self.state)
        launch, written, held = self.standing
        try:
            needed = stage_label(self.start[0]) if self.start else ""
            state = state_by(launch, written, lambda: held, start, needed)
        except (TypeError, ValueError, RecursionError) as error:
            raise Broken(f"state.json, launch.json or its lease cannot be read ({error})") from error
        if state.state not in STATES:
            raise Broken(f"state.json names no state ({state.state!r})")
        _check_types({"reason": state.reason})
        self.state, self.reason = state.state, state.reason
        return state


def files_read(stage: str) -> tuple[str, ...]:
    """The names of the files that are read of a run of `stage`."""
    return FILES + FILES_OF_COSTS if trains_encoder(stage) else FILES


def look(folder: str, names: tuple[str, ...]) -> tuple[str, int]:
    """A mark of the run's files that is another once one of them was written, replaced, added or removed; and when the
    youngest was last written, in ns since 1970. Opens none. Raises Broken where one of them is not a regular file.

    names: `files_read` of its stage.
    """
    try:
        seen, youngest = retried(lambda: _seen(folder, names))
    except OSError as error:
        raise Broken(f"{os.path.basename(error.filename)} cannot be read ({error.strerror})") from error
    return blake2b(repr(seen).encode(), digest_size=16).hexdigest(), youngest


def trains_encoder(stage: str) -> bool:
    """Whether hours and device of its runs are collected: those of the stage that pretrains."""
    spec = stages.get(stage)
    return spec is not None and not spec.measures


def _seen(folder: str, names: tuple[str, ...]) -> tuple[list[tuple[int, ...] | None], int]:
    seen: list[tuple[int, ...] | None] = []
    youngest = 0
    for name in names:
        try:
            file = os.stat(f"{folder}/{name}")
        except FileNotFoundError:
            seen.append(None)
            continue
        if not stat.S_ISREG(file.st_mode):
            raise Broken(f"{name} is not a file")
        # ctime tells of what a tool has changed that sets mtime back.
        written = file.st_mtime_ns
        seen.append((file.st_ino, file.st_size, written, file.st_ctime_ns))
        if written > youngest:
            youngest = written
    return seen, youngest


def read_run(run: RunFolder) -> tuple[Read, list[str]]:
    """The run, and what is wrong with those of its files that can be done without.

    Raises Broken, or NewerSchema where a newer version wrote a file.
    """
    config = _document(run, "config")
    if config is None:
        raise Broken("no config.json")
    job = config.get("job")
    if not isinstance(job, dict) or job.get("stage") != run.stage or config.get("id") != run.id:
        raise Broken(f"config.json is not that of {run.stage}/{run.id}")
    launch, written = _document(run, "launch") or {}, _document(run, "state") or {}
    _check_types({"reason": written.get("reason")})
    result = _document(run, "result") if written.get("state") == "done" else None
    read = _read(run, config)
    if written.get("state") != "done":
        try:
            read.standing = launch, written, written.get("state") == "running" and run.is_held()
            read.stand(None)
        except OSError as error:
            raise Broken(f"state.json, launch.json or its lease cannot be read ({error})") from error
        return read, []
    if result is None:
        raise Broken("state.json says done but there is no result.json")
    _check_metrics(run, result)
    read.figures = _figures(run.stage, result)
    return read, _add_costs(run, read) if trains_encoder(run.stage) else []


def read_settings(run: RunFolder) -> Read | None:
    """What config.json alone says of a run that is Broken; None where that cannot be read."""
    try:
        if not (run.path / "config.json").is_file():  # a pipe would be waited for
            return None
        return _read(run, _document(run, "config") or {})
    except (Broken, OSError):
        return None


def _document(run: RunFolder, name: str) -> dict[str, Any] | None:
    """One file of the folder. Raises Broken where it does not hold a JSON object."""
    try:
        return run.read(name)
    except NewerSchema:
        raise
    except (ValueError, OSError) as error:
        raise Broken(f"{name}.json cannot be read ({error})") from error


def _check_metrics(run: RunFolder, result: dict[str, Any]) -> None:
    try:
        run.check_against(result, run.metrics)
    except NewerSchema:
        raise
    except (ValueError, OSError, AttributeError) as error:
        raise Broken(f"metrics.jsonl cannot be read ({error})") from error


# ------------------------------------------------------------------------------------------------------------- configs


def _read(run: RunFolder, config: Mapping[str, Any]) -> Read:
    """Raises Broken where config.json lacks a field, or holds one that is none."""
    try:
        job, fingerprint = config["job"], config["data_fingerprint"]
        seed, start, recipe = job["seed"], start_of(job), job["recipe"]
        if not isinstance(recipe, dict):
            raise Broken(f"its recipe is {recipe!r:.60}, which is none")
        kept = {name: value for name, value in job.items() if name != "seed"}
        kept |= {"pretraining": bool(start)} if "pretraining" in job else {}
        text = canonical({"data_fingerprint": fingerprint, "job": kept})
        plugins = canonical(config["plugins"]) if "plugins" in config else None
        if plugins:
            recall(config["plugins"])
        _check_types(
            {**_checked(text), "seed": seed, "data_fingerprint": fingerprint, "pretraining": start and start[1]}
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, Broken):
            raise
        raise Broken(f"config.json or result.json lacks a field ({type(error).__name__}: {error})") from error
    return Read(run.stage, run.id, seed, text, start, plugins=plugins)


@lru_cache(maxsize=4096)
def _checked(text: str) -> dict[str, Any]:
    """The columns of a run without a seed, of its `Read.config`."""
    job = parsed(text)[0]
    return columns_of(row_of([job]), job)


def parsed(text: str) -> tuple[dict[str, Any], str]:
    """The job of a `Read.config`, without a seed, and the data's fingerprint."""
    data = json.loads(text)
    job = {**data["job"], "seed": None}
    if "pretraining" in job:
        job["pretraining"] = "?" if job["pretraining"] else None
    return job, data["data_fingerprint"]


def columns_of(row: Flat, job: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a collected frame that a job's row fills. Of its recipe no field that changes nothing."""
    said = row | dict.fromkeys(path for path in PATHS.values() if path.startswith("evaluation.")) | own_recipe(job)
    columns = {name: said.get(path) for name, path in PATHS.items()}
    size = row["image_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    return {**columns, "image_size": f"{height:d}" if height == width else f"{height:d}x{width:d}"}


def _check_types(row: Mapping[str, Any]) -> None:
    """Raises Broken where a value is not of its column's type."""
    for name, value in row.items():
        wanted = TYPES[name]
        if value is None:
            continue
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise Broken(f"its {name} is {value!r:.60}, of the wrong type")
        if (isinstance(value, str) and not _is_text(value)) or (isinstance(value, int) and abs(value) >= 2**63):
            raise Broken(f"its {name} is {value!r:.60}, which cannot be stored")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------- figures


def _figures(stage: str, result: Mapping[str, Any]) -> str:
    """Raises Broken where the main figure is missing, or one is no number."""
    spec = stages.get(stage)
    if spec is not None and result.get(spec.main.name) is None:
        raise Broken(f"result.json has no figure {spec.main.name}")
    figures = {name: value for name, value in result.items() if name not in ("files", "schema")}
    _check_types({name: figures.get(name) for name in ("top1", "top5", "loss")})
    _check_types({"pretrain_images": figures.get("images")})
    try:
        return canonical(figures)
    except (TypeError, ValueError, RecursionError) as error:
        raise Broken(f"result.json cannot be read ({error})") from error


def _add_costs(run: RunFolder, read: Read) -> list[str]:
    """Sets hours and device; returns what is wrong with the files that tell them."""
    try:
        epochs = _checked(read.config)["epochs"]
        device, processes = _place(run)
        seconds = _seconds(run, epochs)
        hours = None if processes is None or seconds is None else seconds * processes / 3600
        _check_types({"pretrain_hours": hours, "pretrain_device": device})
    except (Broken, OSError, KeyError, TypeError, AttributeError) as error:
        what = str(error) if isinstance(error, Broken | OSError) else f"environment.json or timing.jsonl: {error!r}"
        return [f"{what}; its hours and device are shown as unknown"]
    read.hours, read.device = hours, device
    return []


def _place(run: RunFolder) -> tuple[str | None, int | None]:
    """The device, or all of them, and the number of processes, None where it was not always the same."""
    environment = _document(run, "environment")
    if environment is None:
        return None, None
    ran: Sequence[dict[str, Any]] = [*environment["earlier"], environment]
    processes = {before["processes"] for before in ran}
    if not all(isinstance(count, int) and count > 0 for count in processes):
        raise Broken("environment.json names no number of processes")
    devices = dict.fromkeys(before["device"] for before in ran)
    return " and ".join(devices), processes.pop() if len(processes) == 1 else None


def _seconds(run: RunFolder, epochs: int) -> float | None:
    """The seconds of all epochs together; None where there is no timing.jsonl."""
    path = run.path / "timing.jsonl"
    lines, damaged = whole_lines(path)
    if damaged:
        raise Broken(f"timing.jsonl:{damaged[0]}: damaged")
    if [line["epoch"] for line in lines] != list(range(1, epochs + 1)):
        if not path.exists():
            return None
        raise Broken(f"timing.jsonl does not tell of each of {epochs} epochs once")
    return math.fsum(line["seconds"] for line in lines)
