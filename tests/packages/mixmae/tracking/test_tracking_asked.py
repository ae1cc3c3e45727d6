"""Who asks for trackers, what of it is refused, and that one that fails harms no run."""

import sys
import time

import pytest

import cli
from ablations.grid.file import read_grid
from ablations.local.launching import launch
from ablations.plan.plan import plan
from ablations.slurm.submitting import submit
from mixmae.fields.documents import ConfigError
from mixmae.runs.folder import RunFolder
from mixmae.tracking import asked, trackers
from mixmae.tracking.asked import check_installed
from mixmae.training.resources import Resources
from mixmae.work import task
from mixmae.work.execution import execute
from mixmae.work.worker import WorkList
from support.tiny_jobs import StopAfter, never
from support.tracked_runs import pretraining, said, set_up, shows


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with set_up(folder):
        yield folder


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
    monkeypatch.setitem(asked.TRACKERS, "wandb", "test_tracking_asked:Failing")
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
    monkeypatch.setitem(asked.TRACKERS, "mlflow", "test_tracking_asked:Standing")
    monkeypatch.setitem(trackers.PATIENCE_S, "done", 0.5)
    run = pretraining(tmp_path, "mlflow", seed=11)
    assert execute(run, Resources(track=("mlflow",)), never) == "done"
    assert said(run, "WARNING mlflow is not waited for any longer") and run.read("state")["state"] == "done"
