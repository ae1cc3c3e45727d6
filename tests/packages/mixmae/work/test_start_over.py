"""A run none of whose checkpoints can be read: it begins anew only when told to, and nothing is thrown away."""

import pytest
import yaml

from ablations.grid.file import Case
from ablations.plan.plan import plan
from ablations.plan.queueing import create_run
from mixmae.experiment.reading import read_experiment
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.forked import program
from support.tiny_jobs import DECODER, ENCODERS, PRETRAIN, StopAfter, lines, never, planned_runs
from support.tiny_jobs import experiment as tiny


@pytest.mark.slow
def test_it_begins_anew_only_when_told_to(tmp_path):
    file, root = tmp_path / "case.yaml", tmp_path / "runs"
    encoder = {name: list(value) if isinstance(value, tuple) else value for name, value in ENCODERS["swin"].items()}
    training = {**PRETRAIN, "crop_scale": [0.6, 1.0]}
    case = {"method": {"name": "mixmae", **DECODER}, "encoder": encoder, "image_size": 32, "pretrain": training}
    file.write_text(yaml.safe_dump(case))
    experiment, document = read_experiment(file)
    (entry,) = plan("case", [Case("case", experiment, document)], root).entries
    run = create_run(root, entry.planned)
    assert execute(run, Resources(), StopAfter(9)) == "stopped"
    saved = sorted(run.checkpoints.glob("step-*.pt"))
    for path in saved:
        path.write_bytes(path.read_bytes()[:-1000])
    command = ["--root", str(root), "run", str(file)]
    told = program(*command)
    shown, said = told.communicate()
    assert told.returncode == 1, said
    assert "Traceback" not in shown
    assert "none of the checkpoints in" in said and "mixmae run --start-over" in said
    assert sorted(run.checkpoints.glob("step-*.pt")) == saved
    told = program(*command, "--start-over")
    _, said = told.communicate()
    assert told.returncode == 0, said
    aside = run.checkpoints / "set-aside-1"
    assert f"set aside: {aside}" in said
    assert [path.name for path in sorted(aside.iterdir())] == [path.name for path in saved]
    assert (run.read("state") or {})["state"] == "done"


def test_a_run_whose_checkpoints_are_gone_says_that_it_begins_anew(tmp_path):
    run = planned_runs(tmp_path, tiny())["pretrain"]
    assert execute(run, Resources(), StopAfter(9)) == "stopped"
    assert len(lines(run.metrics)) > 0
    for path in run.checkpoints.glob("step-*.pt"):
        path.unlink()
    assert execute(run, Resources(), never) == "done"
    assert f"{run.checkpoints} holds no checkpoint, though" in (run.path / "log.txt").read_text()
    assert [line["epoch"] for line in lines(run.metrics)] == [1, 2, 3]
