"""One run folder as one flat row: what its own files say, whatever they hold (no torch).

Folders are read as plain JSON: they were checked when they were written, and thousands of them are read at once. But
they may be half copied, damaged, older, or no run's at all, so that nothing is taken for what it should be: every
value of a row is of its column's type, or the folder is `Broken`.
"""

import json
import math
import os
import stat
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

import pandas as pd

from mixmae.files.records import NewerSchema, whole_lines
from mixmae.files.retrying import retried
from mixmae.runs.folder import RunFolder
from mixmae.runs.state import STATES, RunState, state_by

COLUMNS = {
    "root": "str",
    "stage": "str",
    "id": "str",
    "state": "str",
    "reason": "str",
    "method": "str",
    "encoder": "str",
    "seed": "Int64",
    "data": "str",
    "image_size": "str",
    "pretrain_epochs": "Int64",
    "ratio": "float64",
    "images": "Int64",
    "fill": "str",
    "dual": "boolean",
    "masked_attention": "boolean",
    "mix_embedding": "boolean",
    "normalised_target": "boolean",
    "decoder_depth": "Int64",
    "decoder_width": "Int64",
    "mask_unit": "Int64",
    "weights": "str",
    "labels_per_class": "Int64",
    "fraction": "float64",
    "pretrain_labels_per_class": "Int64",
    "pretrain_fraction": "float64",
    "pretrain_images": "Int64",
    "features": "str",
    "epochs": "Int64",
    "top1": "float64",
    "top5": "float64",
    "loss": "float64",
    "pretrain_loss": "float64",
    "pretraining": "str",
    "data_fingerprint": "str",
    "pretrain_hours": "float64",
    "pretrain_device": "str",
    "config": "str",
}
"""The columns of what is collected, and their types.

`root` is where the run folder lies, which is not written to files. `top1` and `top5` are percent; only runs that are
done have figures. `pretrain_images` are those that were trained on, once for each epoch, `pretrain_hours` the measured
hours of all processes of the pretraining, without those that were lost where it stopped and went on, and
`pretrain_device` what it ran on ("cpu", or a GPU's name); they are missing where they are not known. `config` is all
that is computed, the pretraining's part included and the seeds left out, as canonical JSON, the pretraining's part
last: runs that share it are repetitions.
"""

OWN = {name: kind for name, kind in COLUMNS.items() if name not in ("root", "pretrain_loss")} | {"figures": "str"}
"""The columns of a row as the run's own folder fills them, and their types. The `method` of an evaluation with a
pretraining is missing, and its `config` is without the pretraining's part. `figures` is result.json without "files"."""

FILES = ("config.json", "launch.json", "state.json", "result.json", "metrics.jsonl")
"""What a row is made of."""
FILES_OF_COSTS = ("environment.json", "timing.jsonl")
"""And of a pretraining's, its hours and device."""

_METHOD_FIELDS = (
    "ratio", "images", "fill", "dual", "masked_attention", "mix_embedding", "normalised_target", "decoder_depth",
    "decoder_width", "mask_unit",
)  # fmt: skip

OF_PRETRAINING = (
    "method", "pretrain_epochs", "pretrain_labels_per_class", "pretrain_fraction", *_METHOD_FIELDS, "pretrain_images",
    "pretrain_hours", "pretrain_device",
)  # fmt: skip
"""The columns that an evaluation takes from its pretraining's row."""

_TYPES = {"str": str, "Int64": int, "float64": (int, float), "boolean": bool}


class Broken(ValueError):
    """A folder that is not read as a run; the message says why."""


def look(stage: str, folder: str) -> tuple[str, int]:
    """A mark of the run's files that is another once one of them was written, replaced, added or removed; and when the
    youngest was last written, in ns since 1970. Opens none. Raises Broken where one of them is not a regular file."""
    names = FILES + FILES_OF_COSTS if stage == "pretrain" else FILES
    try:
        found = retried(lambda: _stats(folder, names))
    except OSError as error:
        raise Broken(f"{os.path.basename(error.filename)} cannot be read ({error.strerror})") from error
    for name, each in zip(names, found, strict=True):
        if each and not stat.S_ISREG(each.st_mode):
            raise Broken(f"{name} is not a file")
    # ctime tells of what a tool has changed that sets mtime back.
    seen = [each and (each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found]
    youngest = max((each.st_mtime_ns for each in found if each), default=0)
    return blake2b(repr(seen).encode(), digest_size=16).hexdigest(), youngest


def _stats(folder: str, names: tuple[str, ...]) -> list[os.stat_result | None]:
    found = []
    for name in names:
        try:
            found.append(os.stat(f"{folder}/{name}"))
        except FileNotFoundError:
            found.append(None)
    return found


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `read_run` as a frame."""
    return pd.DataFrame(rows, columns=list(OWN)).astype(OWN)


def read_run(run: RunFolder, pretrainings: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The run's row, with keys of `OWN`, and what is wrong with those of its files that the row can do without.

    pretrainings: states by id, of those that the run may wait for. Raises Broken, or NewerSchema where a newer version
    wrote a file.
    """
    config = _document(run, "config")
    if config is None:
        raise Broken("no config.json")
    job = config.get("job")
    if not isinstance(job, dict) or job.get("stage") != run.stage or config.get("id") != run.id:
        raise Broken(f"config.json is not that of {run.stage}/{run.id}")
    state, result = _state(run, job, pretrainings)
    try:
        row = _row(run, config, state, result)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise Broken(f"config.json or result.json lacks a field ({type(error).__name__}: {error})") from error
    costs, wrong = _costs(run, row["epochs"]) if run.stage == "pretrain" and state.state == "done" else ({}, [])
    return _typed({**row, **costs}), wrong


def read_settings(run: RunFolder) -> dict[str, Any] | None:
    """What config.json alone says of a run that is Broken, as a row without figures; None where that cannot be read."""
    try:
        if not (run.path / "config.json").is_file():  # a pipe would be waited for
            return None
        return _typed(_row(run, _document(run, "config") or {}, RunState("planned"), None))
    except (Broken, OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None


def _document(run: RunFolder, name: str) -> dict[str, Any] | None:
    """One file of the folder. Raises Broken where it does not hold a JSON object."""
    try:
        return run.read(name)
    except NewerSchema:
        raise
    except (ValueError, OSError) as error:
        raise Broken(f"{name}.json cannot be read ({error})") from error


def _state(run: RunFolder, job: dict, pretrainings: Mapping[str, str]) -> tuple[RunState, dict[str, Any] | None]:
    """Its state, and what is in result.json where it is done."""
    launch, written = _document(run, "launch") or {}, _document(run, "state") or {}
    result = _document(run, "result") if written.get("state") == "done" else None
    needs = pretrainings.get(str(job.get("pretraining")))
    try:
        state = state_by(launch, written, run.is_held, needs and RunState(needs))
    except (TypeError, OSError, RecursionError) as error:
        raise Broken(f"state.json, launch.json or its lease cannot be read ({error})") from error
    if state.state not in STATES:
        raise Broken(f"state.json names no state ({state.state!r})")
    if state.state != "done":
        return state, None
    if result is None:
        raise Broken("state.json says done but there is no result.json")
    _check_metrics(run)
    return state, result


def _check_metrics(run: RunFolder) -> None:
    try:
        run.check(run.metrics)
    except NewerSchema:
        raise
    except (ValueError, OSError, AttributeError) as error:
        raise Broken(f"metrics.jsonl cannot be read ({error})") from error


# --------------------------------------------------------------------------------------------------------------- rows


def _row(run: RunFolder, config: dict, state: RunState, result: dict | None) -> dict[str, Any]:
    job, recipe, figures = config["job"], config["job"]["recipe"], result or {}
    subset = recipe.get("subset", {})
    height, width = job["image_size"]
    if result is not None and result["loss" if run.stage == "pretrain" else "top1"] is None:
        raise ValueError("result.json has no figure")
    return {
        "stage": run.stage,
        "id": run.id,
        "state": state.state,
        "reason": state.reason,
        "encoder": job["encoder"]["name"] if job["encoder"] else "-",
        "seed": job["seed"],
        "data": job["data"]["name"],
        "image_size": f"{height:d}" if height == width else f"{height:d}x{width:d}",
        "labels_per_class": subset.get("labels_per_class"),
        "fraction": subset.get("fraction"),
        "features": recipe.get("features"),
        "epochs": recipe.get("epochs"),
        "top1": figures.get("top1"),
        "top5": figures.get("top5"),
        "loss": figures.get("loss"),
        "data_fingerprint": config["data_fingerprint"],
        **(_pretraining(job, figures) if run.stage == "pretrain" else _what_is_evaluated(job)),
        "config": _canonical({"data_fingerprint": config["data_fingerprint"], **_computed(job)}),
        "figures": _canonical({name: value for name, value in figures.items() if name not in ("files", "schema")}),
    }


def _pretraining(pretrain: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """The columns that evaluations take from a pretraining, but for its costs."""
    method, recipe = pretrain["method"], pretrain["recipe"]
    subset = recipe.get("subset", {})
    return {
        "method": method["name"],
        "pretrain_epochs": recipe["epochs"],
        "pretrain_labels_per_class": subset.get("labels_per_class"),
        "pretrain_fraction": subset.get("fraction"),
        "pretrain_images": figures.get("images"),
        **{field: method.get(field) for field in _METHOD_FIELDS},
    }


def _what_is_evaluated(job: dict[str, Any]) -> dict[str, Any]:
    weights = job.get("weights")
    if job["pretraining"] is not None:
        return {"pretraining": job["pretraining"]}
    if weights:
        return {"method": "imported", "weights": PurePath(weights["path"]).name}
    if job["stage"] == "finetune":
        return {"method": "supervised"}
    return {"method": "random init" if job["encoder"] else "raw pixels"}


def _computed(job: dict[str, Any]) -> dict[str, Any]:
    """The job without its seed, without the id of its pretraining (a hash with a seed in it) and without what is
    recorded only: the encoder's label and where the data lies."""
    rest = {name: value for name, value in job.items() if name not in ("seed", "pretraining")}
    rest["data"] = {name: value for name, value in job["data"].items() if name != "path"}
    if job.get("weights"):
        rest["weights"] = job["weights"]["sha256"]
    if job["encoder"]:
        rest["encoder"] = {name: value for name, value in job["encoder"].items() if name != "name"}
    return rest


def _canonical(data: dict[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """Raises Broken where a value is not of its column's type."""
    for name, value in row.items():
        kind = OWN[name]
        if value is None:
            continue
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
            raise Broken(f"its {name} is {value!r:.60}, of the wrong type")
        if kind == "str" and not _is_text(value) or isinstance(value, int) and abs(value) >= 2**63:
            raise Broken(f"its {name} is {value!r:.60}, which cannot be stored")
    return row


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# -------------------------------------------------------------------------------------------------------------- costs


def _costs(run: RunFolder, epochs: int) -> tuple[dict[str, Any], list[str]]:
    """`pretrain_hours` and `pretrain_device` of a pretraining that is done, and what is wrong with the files that tell
    them."""
    try:
        device, processes = _place(run)
        seconds = _seconds(run, epochs)
        hours = None if processes is None or seconds is None else seconds * processes / 3600
        return _typed({"pretrain_hours": hours, "pretrain_device": device}), []
    except (Broken, OSError, KeyError, TypeError, AttributeError) as error:
        what = str(error) if isinstance(error, Broken | OSError) else f"environment.json or timing.jsonl: {error!r}"
        return {}, [f"{what}; its hours and device are shown as unknown"]


def _place(run: RunFolder) -> tuple[str | None, int | None]:
    """The device, or all of them, and the number of processes, None where it was not always the same."""
    environment = _document(run, "environment")
    if environment is None:
        return None, None
    ran = [*environment["earlier"], environment]
    processes = {each["processes"] for each in ran}
    if not all(isinstance(count, int) and count > 0 for count in processes):
        raise Broken("environment.json names no number of processes")
    devices = dict.fromkeys(each["device"] for each in ran)
    return " and ".join(devices), processes.pop() if len(processes) == 1 else None


def _seconds(run: RunFolder, epochs: int) -> float | None:
    """Of all epochs together; None where there is no timing.jsonl."""
    path = run.path / "timing.jsonl"
    lines, damaged = whole_lines(path)
    if damaged:
        raise Broken(f"timing.jsonl:{damaged[0]}: damaged")
    if [line["epoch"] for line in lines] != list(range(1, epochs + 1)):
        if not path.exists():
            return None
        raise Broken(f"timing.jsonl does not tell of each of {epochs} epochs once")
    return math.fsum(line["seconds"] for line in lines)
