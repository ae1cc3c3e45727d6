"""The trackers of a run, each the real one, offline: what it holds in the end is read back from its own files."""

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ablations.control.pruning import delete, find
from mixmae.tracking.tracker import tracked
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.forked import job
from support.tiny_jobs import FINETUNE, StopAfter, experiment, lines, never, planned_runs
from support.tracked_runs import ALL, in_tensorboard, mlflow_run, pretraining, said, set_up, shows, wandb_records


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """MLflow's tables are there: making them may outlast the patience of a run that is stopped."""
    import mlflow

    folder = tmp_path_factory.mktemp("home")
    with set_up(folder):
        mlflow.MlflowClient().search_experiments()
        yield folder


@pytest.fixture(params=ALL)
def name(request) -> str:
    if request.param == "trackio":
        pytest.importorskip("trackio", reason="trackio wants pillow < 13; make test installs it without its demands")
    return request.param


@pytest.mark.slow
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
    run = pretraining(tmp_path, "tensorboard", seed=4, epochs=15)
    child = job(run, Resources(save_steps=3, track=("tensorboard",)))
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


def test_starts_of_wandb_within_one_second_are_set_aside_apart(tmp_path):
    from mixmae.tracking.wandb import _set_aside

    for _ in range(3):
        (tmp_path / "offline-run-20261124_173208-0123").mkdir()
        (tmp_path / "offline-run-20261124_173208-0123" / "run.wandb").touch()
        _set_aside(tmp_path, "0123")
    assert len(list(tmp_path.glob("set-aside-*/run.wandb"))) == 3
