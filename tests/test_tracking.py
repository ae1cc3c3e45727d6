"""The trackers of a run, each the real one, offline: what it holds in the end is read back from its own files."""

import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_jobs import FINETUNE, StopAfter, experiment, lines, never, planned_runs

import cli
from ablations.grid import read_grid
from ablations.launching import launch
from ablations.planning import plan
from ablations.pruning import delete, find
from ablations.submitting import submit
from mixmae import names, task
from mixmae.documents import ConfigError
from mixmae.execution import execute
from mixmae.experiment import Resources
from mixmae.runs import RunFolder
from mixmae.tracking import trackers
from mixmae.tracking.asked import check_installed
from mixmae.tracking.tracker import tracked
from mixmae.worklist import WorkList

Curve = list[tuple[int, dict[str, float]]]
"""(step, figures) as a tracker shows them, in its order."""
ALL = tuple(names.TRACKERS)
CHILD = """
import sys, pathlib
from mixmae.runs import RunFolder
from mixmae.experiment import Resources
from mixmae.execution import execute
root, stage, name = sys.argv[1:]
execute(RunFolder(pathlib.Path(root), stage, name), Resources(save_steps=3, track=("tensorboard",)), lambda: False)
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A user who has set up none of the trackers, and no network. MLflow's tables are there: making them may outlast
    the patience of a run that is stopped."""
    import mlflow

    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_", "HF_"))]:
            patch.delenv(name)
        for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "TRACKIO_DIR"):
            patch.setenv(name, str(folder))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HF_HUB_OFFLINE", "1")
        mlflow.MlflowClient().search_experiments()
        yield folder


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


@pytest.fixture(params=ALL)
def name(request) -> str:
    if request.param == "trackio":
        pytest.importorskip("trackio", reason="trackio wants pillow < 13; make test installs it without its demands")
    return request.param


def pretraining(root: Path, name: str, seed: int, epochs: int = 3) -> RunFolder:
    """With an id of its own: stores outlive a test. Four steps an epoch."""
    return planned_runs(root, experiment(pretrain={"epochs": epochs}, seed=10 * seed + ALL.index(name)))["pretrain"]


def said(run: RunFolder, word: str) -> list[str]:
    return [line for line in (run.path / "log.txt").read_text().splitlines() if word in line]


# ---------------------------------------------------------------------------------------------------------------- tests


def test_a_run_shows_every_epoch_with_all_its_figures(tmp_path, name):
    run = pretraining(tmp_path, name, seed=1)
    assert execute(run, Resources(track=(name,)), never) == "done"
    shows(name, run)
    assert len(said(run, f"{name} follows this run: ")) == 1 and not said(run, "WARNING")
    assert run.read("environment")["track"] == [name]


def test_an_epoch_computed_again_is_shown_once(tmp_path, name):
    """Stopped within an epoch, gone back to the end of one before the last that was shown, then to the very start."""
    run, resources = pretraining(tmp_path, name, seed=2, epochs=5), Resources(track=(name,), save_steps=1)
    assert execute(run, resources, StopAfter(6)) == "stopped"
    kept = shutil.copytree(run.checkpoints, tmp_path / "kept")
    assert execute(run, resources, StopAfter(9)) == "stopped"
    assert lines(run.path / "metrics.jsonl")[-1]["epoch"] == 3
    shutil.rmtree(run.checkpoints)
    shutil.copytree(kept, run.checkpoints)
    assert execute(run, resources, StopAfter(1)) == "stopped"
    shutil.rmtree(run.checkpoints)
    assert execute(run, resources, StopAfter(6)) == "stopped"
    assert execute(run, resources, never) == "done"
    shows(name, run, timed=name in ("tensorboard", "wandb"))


def test_a_tracker_that_is_named_later_is_told_all(tmp_path, name):
    run = pretraining(tmp_path, name, seed=3)
    assert execute(run, Resources(), StopAfter(9)) == "stopped"
    assert execute(run, Resources(track=(name,)), never) == "done"
    shows(name, run)


def test_a_killed_run_goes_on_with_its_curve(tmp_path):
    run = pretraining(tmp_path, "tensorboard", seed=4, epochs=25)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(run.root), run.stage, run.id], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(lines(run.path / "metrics.jsonl")) < 5 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    (torn,) = (run.path / "tensorboard").iterdir()
    torn.write_bytes(torn.read_bytes()[:-5])
    assert execute(run, Resources(track=("tensorboard",)), never) == "done"
    assert said(run, "resumed at step") and len(list((run.path / "tensorboard").iterdir())) == 2
    shows("tensorboard", run)


def test_nothing_that_is_computed_changes(tmp_path):
    """With a data loading process too, which is forked off while the trackers are told."""
    ended = []
    for place, track in (("without", ()), ("with", ALL)):
        run = planned_runs(tmp_path / place, experiment(seed=5))["pretrain"]
        random.seed(7)
        assert execute(run, Resources(track=track, workers=1), never) == "done"
        files = [(run.path / name).read_bytes() for name in ("metrics.jsonl", "result.json")]
        drawn = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)]
        ended.append((files, run.weights.read_bytes(), drawn, handlers, torch.get_num_threads()))
    assert len(said(run, " follows this run: ")) >= 3
    assert ended[0] == ended[1]


# -------------------------------------------------------------------------------------- what is told beside the figures


def test_the_config_and_the_names_are_told_once(tmp_path, name):
    run = pretraining(tmp_path, name, seed=6)
    assert execute(run, Resources(track=(name,)), StopAfter(6)) == "stopped"
    assert execute(run, Resources(track=(name,)), never) == "done"
    config = run.read("config")["job"]
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run.path / "tensorboard")).Reload()
        (text,) = events.Tensors("config/text_summary")
        assert f"seed: {config['seed']}\n" in text.tensor_proto.string_val[0].decode()
    elif name == "wandb":
        (path,) = run.path.glob("wandb/offline-run-*/*.wandb")
        (told,) = [record.run for record in wandb_records(path) if record.WhichOneof("record_type") == "run"]
        assert (told.run_id, told.display_name, told.run_group) == (run.id, f"pretrain/{run.id[:8]}", "mixmae-swin")
        assert (told.project, told.job_type) == ("mixmae", "pretrain")
        values = {item.key: json.loads(item.value_json) for item in told.config.update}
        assert values["recipe"] == config["recipe"] and values["data_fingerprint"]
    elif name == "mlflow":
        client, found = mlflow_run(run)
        assert (found.info.run_name, found.info.status) == (f"pretrain/{run.id[:8]}", "FINISHED")
        assert client.get_experiment(found.info.experiment_id).name == "mixmae-swin"
        assert found.data.params["recipe.epochs"] == "3" and found.data.params["encoder.family"] == "swin"
    else:
        with sqlite3.connect(Path(os.environ["TRACKIO_DIR"]) / "mixmae.db") as database:
            query = "select config from configs where run_name = ?"
            ((told,),) = database.execute(query, (f"pretrain-{run.id}",)).fetchall()
        assert json.loads(told)["recipe"] == config["recipe"] and json.loads(told)["_Group"] == "mixmae-swin"


def test_a_stopped_run_is_said_to_be_one(tmp_path):
    from mlflow.entities import RunStatus

    run = pretraining(tmp_path, "mlflow", seed=7)
    assert execute(run, Resources(track=("wandb", "mlflow")), StopAfter(6)) == "stopped"
    (path,) = run.path.glob("wandb/offline-run-*/*.wandb")
    kinds = {record.WhichOneof("record_type"): record for record in wandb_records(path)}
    assert "preempting" in kinds and kinds["exit"].exit.exit_code == 1
    assert RunStatus.from_string(mlflow_run(run)[1].info.status) == RunStatus.KILLED


def test_experiments_are_methods_and_encoders(tmp_path):
    evaluations = {"finetune": FINETUNE, "linear": {}}
    for method, encoder, expected in [
        ("simmim", "pvt", dict.fromkeys(("pretrain", "finetune", "linear"), "simmim-pvt")),
        ("supervised", "swin", {"finetune": "supervised-swin", "linear": "random-init-swin"}),
    ]:
        runs = planned_runs(tmp_path, experiment(method, encoder, evaluations=evaluations))
        assert {stage: tracked(run).experiment for stage, run in runs.items()} == expected


def test_a_linear_probe_is_tracked_too(tmp_path):
    run = planned_runs(tmp_path, experiment("supervised", evaluations={"linear": {"epochs": 2}}))["linear"]
    assert execute(run, Resources(track=("tensorboard",)), never) == "done"
    shows("tensorboard", run)
    assert "metrics/top1" in in_tensorboard(run)[0][1]


# ------------------------------------------------------------------------------------------------ what goes wrong in it


class Failing:
    """Takes one epoch."""

    where = "nowhere"

    def __init__(self, *_):
        self.taken = 0

    def holds(self, step: int) -> bool:
        return False

    def add(self, step: int, figures: dict) -> None:
        self.taken += 1
        if self.taken > 1:
            raise ConnectionError("the server is gone\nfor good")

    def close(self, ended: str) -> None:
        raise AssertionError("given up, and closed")


class Standing(Failing):
    """Never opens."""

    def __init__(self, *_):
        time.sleep(3600)


def test_one_that_fails_is_given_up_and_named_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(names.TRACKERS, "wandb", "test_tracking:Failing")
    run = pretraining(tmp_path, "tensorboard", seed=8)
    assert execute(run, Resources(track=("wandb", "tensorboard")), never) == "done"
    (warning,) = said(run, "WARNING")
    assert warning.endswith("wandb does not follow this run any longer: ConnectionError: the server is gone")
    shows("tensorboard", run)


def test_one_that_cannot_be_opened_is_given_up_and_named(tmp_path):
    run = pretraining(tmp_path, "tensorboard", seed=9)
    (run.path / "tensorboard").write_text("not a folder")
    assert execute(run, Resources(track=("tensorboard",)), StopAfter(6)) == "stopped"
    assert len(said(run, "WARNING tensorboard does not follow this run any longer: ")) == 1
    (run.path / "tensorboard").unlink()
    assert execute(run, Resources(track=("tensorboard",)), never) == "done"
    shows("tensorboard", run)


def test_one_that_does_not_import_is_given_up_and_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "mixmae.tracking.wandb", raising=False)
    run = pretraining(tmp_path, "wandb", seed=10)
    assert execute(run, Resources(track=("wandb",)), never) == "done"
    assert len(said(run, "WARNING wandb does not follow this run any longer: ModuleNotFoundError: ")) == 1


def test_one_that_stands_still_holds_up_nothing_for_long(tmp_path, monkeypatch):
    monkeypatch.setitem(names.TRACKERS, "mlflow", "test_tracking:Standing")
    monkeypatch.setitem(trackers.PATIENCE_S, "done", 0.5)
    run = pretraining(tmp_path, "mlflow", seed=11)
    assert execute(run, Resources(track=("mlflow",)), never) == "done"
    assert said(run, "WARNING mlflow is not waited for any longer") and run.read("state")["state"] == "done"


def test_a_run_that_another_has_taken_over_leaves_its_trackers_alone(tmp_path):
    """They are the other's now, who may be telling them."""
    run = pretraining(tmp_path, "mlflow", seed=12)

    def taken_over() -> bool:
        if len(lines(run.path / "metrics.jsonl")) < 2:
            return False
        for path in run.path.glob("lease*"):
            path.unlink()
        return False

    assert execute(run, Resources(track=("mlflow",)), taken_over) == "failed"
    assert mlflow_run(run)[1].info.status == "RUNNING"


# ------------------------------------------------------------------------------------------------------ who asks for it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--track", "tensorbord"], "no tracker 'tensorbord'; did you mean tensorboard?\n"),
        (["--track", "comet"], "no tracker 'comet'; write one of tensorboard, wandb, mlflow, trackio\n"),
        (["--track", "wandb", "--track", "wandb"], "wandb is named twice; write it once\n"),
        (["--track", "mlflow"], "track: mlflow is not installed; pip install mlflow-skinny sqlalchemy alembic, or the"),
    ],
)
def test_what_cannot_be_tracked_is_refused_before_anything_starts(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(sys, "argv", ["mixmae", "--root", str(tmp_path / "runs"), "run", "none.yaml", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "runs").exists()


def test_a_grid_says_it_and_is_refused_by_line(tmp_path, monkeypatch):
    file = tmp_path / "grid.yaml"
    text = "base: digits_nano\nsweeps: [{name: all, product: {seed: [0]}}]\nresources: {track: [tensorboard, %s]}\n"
    file.write_text(text % "wand")
    with pytest.raises(ConfigError, match=r"grid.yaml:3:34: resources.track\[1\]: no tracker 'wand'; did you mean wan"):
        read_grid(file)
    file.write_text(text % "wandb")
    grid = read_grid(file)
    planned = plan("grid", grid.cases, tmp_path / "runs")
    monkeypatch.setitem(sys.modules, "wandb", None)
    for start in (lambda: launch(planned, grid.spec.resources), lambda: submit(grid, planned, cancelled=True)):
        with pytest.raises(ValueError, match="^track: wandb is not installed; pip install wandb"):
            start()
    assert not (tmp_path / "runs" / "pretrain").exists() and not (tmp_path / "runs" / "grids").exists()


def test_a_folder_is_no_package(tmp_path, monkeypatch):
    """W&B leaves a ./wandb where it runs."""
    (tmp_path / "trackio").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    with pytest.raises(ValueError, match="trackio is not installed"):
        check_installed(("trackio",))


def test_it_reaches_the_workers_of_a_grid_and_the_tasks_of_slurm(tmp_path):
    asked = Resources(track=("tensorboard", "mlflow"))
    WorkList((), asked, None).write(tmp_path / "worklist.json")
    assert WorkList.read(tmp_path / "worklist.json").resources == asked
    run = RunFolder(tmp_path, "knn", "a")
    run.write("launch", {"tries": 1, "cancelled": False, "resources": asked.model_dump(mode="json")})
    assert task._resources(run) == asked


# ------------------------------------------------------------------------------------------------------- where it lies


def test_places_that_nobody_has_named(tmp_path, monkeypatch):
    """MLflow's is in the root. Who is not logged in at W&B keeps the run in its folder."""
    import wandb

    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run = pretraining(tmp_path, "wandb", seed=14)
    assert execute(run, Resources(track=("wandb", "mlflow")), never) == "done"
    shows("wandb", run)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    shows("mlflow", run)
    wandb.teardown()


def test_pruning_leaves_it_alone(tmp_path):
    run = pretraining(tmp_path, "wandb", seed=15)
    assert execute(run, Resources(track=("tensorboard", "wandb")), never) == "done"
    (run.checkpoints / "step-00000004.pt").write_bytes(b"left behind")
    found = find(tmp_path, None, no_grid=False)
    assert [one.path.name for one in found.leftovers] == ["step-00000004.pt"]
    assert len(delete(found).leftovers) == 1
    shows("tensorboard", run)
    shows("wandb", run)
