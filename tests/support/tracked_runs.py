"""Runs to track, offline, and what each tracker holds of one in the end, read back from its own files."""

import json
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mixmae.runs.folder import RunFolder
from mixmae.tracking import asked, trackers
from support.tiny_jobs import experiment, lines, planned_runs

ALL = tuple(asked.TRACKERS)
Curve = list[tuple[int, dict[str, float]]]
"""(step, figures) as a tracker shows them, in its order."""


@contextmanager
def set_up(folder: Path) -> Iterator[None]:
    """A user whose home is `folder`, who has set up none of the trackers and has no network."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_", "HF_"))]:
            patch.delenv(name)
        for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "TRACKIO_DIR"):
            patch.setenv(name, str(folder))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        for name in ("WANDB__SERVICE_WAIT", "WANDB_INIT_TIMEOUT"):
            patch.setenv(name, "300")  # for what a busy machine takes longer
        for ended in trackers.PATIENCE_S:
            patch.setitem(trackers.PATIENCE_S, ended, 300.0)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def pretraining(root: Path, name: str, seed: int, epochs: int = 3) -> RunFolder:
    """With an id of its own: stores outlive a test. Four steps an epoch."""
    return planned_runs(root, experiment(pretrain={"epochs": epochs}, seed=10 * seed + ALL.index(name)))["pretrain"]


def said(run: RunFolder, word: str) -> list[str]:
    return [line for line in (run.path / "log.txt").read_text().splitlines() if word in line]


# --------------------------------------------------------------------------------------------------------- reading back


def in_tensorboard(run: RunFolder) -> Curve:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    points = [(event.step, tag, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    return in_rows(points)


def in_rows(points: list[tuple[int, str, float]]) -> Curve:
    """By step. A figure that is there more than once makes as many rows."""
    rows: list[tuple[int, dict[str, float]]] = []
    for step, name, value in points:
        row = next((row for at, row in rows if at == step and name not in row), None)
        if row is None:
            rows.append((step, row := {}))
        row[name] = value
    return sorted(rows, key=lambda row: row[0])


def in_wandb(run: RunFolder) -> Curve:
    """What `wandb sync` would send."""
    curve = []
    for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "history":
                items = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
                curve.append((record.history.step.num, {k: v for k, v in items.items() if not k.startswith("_")}))
    return curve


def wandb_records(path: Path):
    """W&B's files are LevelDB logs: blocks of 32 KiB, in them parts with a header of 7 bytes (checksum, length, kind),
    here after a header of the file."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(part)
            part = b""


def in_mlflow(run: RunFolder) -> Curve:
    client, found = mlflow_run(run)
    points = [
        (point.step, name, point.value)
        for name in found.data.metrics
        for point in client.get_metric_history(found.info.run_id, name)
    ]
    return in_rows(points)


def mlflow_run(run: RunFolder):
    import mlflow

    client = mlflow.MlflowClient()
    every = [one.experiment_id for one in client.search_experiments()]
    (found,) = client.search_runs(every, f"tags.`mixmae.id` = '{run.id}'")
    return client, found


def in_trackio(run: RunFolder) -> Curve:
    with sqlite3.connect(Path(os.environ["TRACKIO_DIR"]) / "mixmae.db") as database:
        query = "select step, metrics, run_id from metrics where run_name = ? order by id"
        rows = database.execute(query, (f"{run.stage}-{run.id}",)).fetchall()
    assert len({id for _, _, id in rows}) == 1
    return [(step, json.loads(figures)) for step, figures, _ in rows]


READ: dict[str, Callable[[RunFolder], Curve]] = {
    "tensorboard": in_tensorboard,
    "wandb": in_wandb,
    "mlflow": in_mlflow,
    "trackio": in_trackio,
}


def shows(name: str, run: RunFolder, timed: bool = True) -> None:
    """The curve is that of metrics.jsonl, and (timed) of timing.jsonl, every epoch once and in order."""
    expected = []
    for line, timing in zip(lines(run.path / "metrics.jsonl"), lines(run.path / "timing.jsonl"), strict=True):
        row = {"epoch": line["epoch"]}
        row |= {f"metrics/{key}": line[key] for key in line if key not in ("epoch", "step")}
        row |= {f"timing/{key}": timing[key] for key in timing if key != "epoch"}
        expected.append((line["step"], row))
    found = READ[name](run)
    assert [step for step, _ in found] == [step for step, _ in expected]
    for (_, row), (_, wanted) in zip(found, expected, strict=True):
        assert row.keys() == wanted.keys()
        for key in row:
            if timed or not key.startswith("timing/"):
                assert row[key] == pytest.approx(wanted[key], rel=1e-6), key  # TensorBoard keeps float32
