"""All run folders of a root as one tidy frame, a row a run, whatever its state (no torch).

Folders are read as plain JSON: they were checked when they were written, and thousands of them are read at once. What
cannot be read is named in the log and in `frame.attrs["problems"]`, and left out; the rest is not held up by it.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import mixmae
from mixmae.names import STAGES
from mixmae.runs import SCHEMA, Damaged, NewerSchema, RunFolder, RunState, run_state, write_atomically

log = logging.getLogger(__name__)

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
    "features": "str",
    "epochs": "Int64",
    "top1": "float64",
    "top5": "float64",
    "loss": "float64",
    "pretrain_loss": "float64",
    "pretraining": "str",
    "data_fingerprint": "str",
    "config": "str",
}
"""The columns and their types. `root` is where the run folder lies, which is not written to files. `top1` and `top5`
are percent; only runs that are done have figures. `config` is all that is computed, the pretraining's part included and
the seeds left out, as canonical JSON: runs that share it are repetitions."""

_METHOD_FIELDS = (
    "ratio", "images", "fill", "dual", "masked_attention", "mix_embedding", "normalised_target", "decoder_depth",
    "decoder_width", "mask_unit",
)  # fmt: skip


class Broken(ValueError):
    """A run folder that cannot be read; the message says why."""


@dataclass(frozen=True)
class Loaded:
    """What is read of a run folder; `result` is None until it is done."""

    run: RunFolder
    job: dict[str, Any]
    fingerprint: str
    state: RunState
    result: dict[str, Any] | None


def collect(root: Path) -> pd.DataFrame:
    """One row a run folder under `root`, by stage and id, with `COLUMNS`.

    An evaluation takes its method's columns from the config of its pretraining; where that is missing its method is
    "unknown". Without pretraining the method is "imported" (weights from a file), "supervised" (fine-tuned from
    scratch), "random init" (a frozen evaluation) or "raw pixels". Raises NewerSchema where a newer version wrote a
    file, FileNotFoundError where there is no `root`.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; name the root that holds the runs")
    problems: list[str] = []
    pretrainings = _load_stage(root, "pretrain", {}, problems)
    loaded = dict(pretrainings)
    for stage in STAGES:
        if stage != "pretrain":
            loaded.update(_load_stage(root, stage, pretrainings, problems))
    rows = [_row(item, pretrainings, problems) for item in loaded.values()]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    frame.attrs["problems"] = problems
    for problem in problems:
        log.warning("%s", problem)
    return frame


def write(frame: pd.DataFrame, folder: Path) -> None:
    """Writes `results.parquet`, with the schema's number and this version in its metadata, and `results.csv`, which
    leaves out `config`; neither says where the runs lie."""
    table = pa.Table.from_pandas(frame.drop(columns="root"), preserve_index=False)
    stamps = {b"mixmae_schema": str(SCHEMA).encode(), b"mixmae_version": mixmae.__version__.encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **stamps})
    write_atomically(folder / "results.parquet", lambda path: pq.write_table(table, path))
    plain = frame.drop(columns=["root", "config"])
    write_atomically(
        folder / "results.csv", lambda path: plain.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
    )


# ---------------------------------------------------------------------------------------------------------- reading


def _load_stage(root: Path, stage: str, pretrainings: dict, problems: list[str]) -> dict[tuple[str, str], Loaded]:
    loaded = {}
    for folder in sorted(path for path in root.glob(f"{stage}/*") if path.is_dir()):
        try:
            item = _load(RunFolder(root, stage, folder.name), pretrainings)
        except Broken as error:
            problems.append(f"{stage}/{folder.name}: {error}; left out")
        else:
            loaded[stage, folder.name] = item
    return loaded


def _load(run: RunFolder, pretrainings: dict) -> Loaded:
    config = _read(run, "config")
    if config is None:
        raise Broken("no config.json")
    job = config.get("job")
    if not isinstance(job, dict) or job.get("stage") != run.stage or config.get("id") != run.id:
        raise Broken(f"config.json is not that of {run.stage}/{run.id}")
    needs = pretrainings.get(("pretrain", job.get("pretraining")))
    _read(run, "launch")
    written = _read(run, "result") if (_read(run, "state") or {}).get("state") == "done" else None
    state = run_state(run, needs and needs.state)
    result = written if state.state == "done" else None
    if state.state == "done" and result is None:
        raise Broken("state.json says done but there is no result.json")
    if result is not None:
        _check_metrics(run)
    item = Loaded(run, job, config.get("data_fingerprint"), state, result)
    _check_fields(item)
    return item


def _read(run: RunFolder, name: str) -> dict | None:
    """One file of the folder. Raises Broken where it does not hold a JSON object."""
    try:
        data = run.read(name)
    except NewerSchema:
        raise
    except (ValueError, AttributeError, OSError) as error:
        raise Broken(f"{name}.json cannot be read ({error})") from error
    return data


def _check_metrics(run: RunFolder) -> None:
    try:
        run.check(run.metrics)
    except Damaged as error:
        raise Broken(str(error)) from error


def _check_fields(item: Loaded) -> None:
    try:
        _own_columns(item)
        _method_columns(item.job) if item.run.stage == "pretrain" else item.job["pretraining"]
    except (KeyError, TypeError, AttributeError) as error:
        raise Broken(f"config.json or result.json lacks a field ({type(error).__name__}: {error})") from error


# -------------------------------------------------------------------------------------------------------------- rows


def _row(item: Loaded, pretrainings: dict, problems: list[str]) -> dict[str, Any]:
    row = _own_columns(item)
    if item.run.stage == "pretrain":
        return {**row, **_method_columns(item.job), "config": _config(item, None)}
    row["pretraining"] = item.job["pretraining"]
    if row["pretraining"] is None:
        row["weights"] = _weights_file(item.job)
        return {**row, "method": _without_pretraining(item.job), "config": _config(item, None)}
    pretraining = pretrainings.get(("pretrain", row["pretraining"]))
    if pretraining is None:
        name = f"{item.run.stage}/{item.run.id}"
        problems.append(f"{name}: its pretraining {row['pretraining']} is missing; its method is shown as unknown")
        return {**row, "method": "unknown", "config": _config(item, None)}
    row["pretrain_loss"] = (pretraining.result or {}).get("loss")
    return {**row, **_method_columns(pretraining.job), "config": _config(item, pretraining)}


def _own_columns(item: Loaded) -> dict[str, Any]:
    """What the run's own folder says."""
    job, recipe, result = item.job, item.job["recipe"], item.result or {}
    subset = recipe.get("subset", {})
    if item.result is not None:
        _ = result["loss"] if item.run.stage == "pretrain" else result["top1"]
    return {
        "root": str(item.run.root),
        "stage": item.run.stage,
        "id": item.run.id,
        "state": item.state.state,
        "reason": item.state.reason,
        "encoder": job["encoder"]["name"] if job["encoder"] else "-",
        "seed": job["seed"],
        "data": job["data"]["name"],
        "image_size": _size(*job["image_size"]),
        "labels_per_class": subset.get("labels_per_class"),
        "fraction": subset.get("fraction"),
        "features": recipe.get("features"),
        "epochs": recipe.get("epochs"),
        "top1": result.get("top1"),
        "top5": result.get("top5"),
        "loss": result.get("loss"),
        "data_fingerprint": item.fingerprint,
    }


def _method_columns(pretrain: dict[str, Any]) -> dict[str, Any]:
    """What the config of a pretraining says of the method."""
    method, recipe = pretrain["method"], pretrain["recipe"]
    subset = recipe.get("subset", {})
    return {
        "method": method["name"],
        "pretrain_epochs": recipe["epochs"],
        "pretrain_labels_per_class": subset.get("labels_per_class"),
        "pretrain_fraction": subset.get("fraction"),
        **{field: method.get(field) for field in _METHOD_FIELDS},
    }


def _without_pretraining(job: dict[str, Any]) -> str:
    if job.get("weights"):
        return "imported"
    if job["stage"] == "finetune":
        return "supervised"
    return "random init" if job["encoder"] else "raw pixels"


def _weights_file(job: dict[str, Any]) -> str | None:
    """Name of the file that imported weights came from."""
    return PurePath(job["weights"]["path"]).name if job.get("weights") else None


def _size(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}x{width}"


def _config(item: Loaded, pretraining: Loaded | None) -> str:
    parts = {"data_fingerprint": item.fingerprint, **_computed(item.job)}
    if pretraining:
        parts["pretraining"] = {"data_fingerprint": pretraining.fingerprint, **_computed(pretraining.job)}
    return json.dumps(parts, sort_keys=True, separators=(",", ":"))


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
