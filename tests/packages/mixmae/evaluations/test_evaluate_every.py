"""`evaluate_every`: how often val is measured changes nothing that is trained, nor the last figures."""

import signal
import time

import pytest

from mixmae.experiment.jobs import job_of
from mixmae.experiment.stages import stages
from mixmae.files.records import sha256
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.forked import job
from support.tiny_jobs import FINETUNE, StopAfter, experiment, lines, never, planned_runs

EPOCHS = 5
SCORES = ("val_loss", "top1", "top5")


def planned(root, every, **recipe):
    evaluations = {"finetune": {**FINETUNE, "epochs": EPOCHS, "evaluate_every": every, **recipe}}
    return planned_runs(root, experiment("supervised", evaluations=evaluations))["finetune"]


def left(run):
    """The result but for the hash of metrics.jsonl, which says less; and the weights."""
    result = run.read("result")
    return {name: value for name, value in result.items() if name != "files"}, sha256(run.weights)


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    """A run that measured val after each epoch."""
    run = planned(tmp_path_factory.mktemp("each"), 1)
    assert execute(run, Resources(), never) == "done"
    return run


@pytest.mark.parametrize(("every", "measured"), [(2, [2, 4, 5]), (3, [3, 5]), (5, [5]), (9, [5])])
def test_the_last_figures_and_weights_are_the_same_bits(tmp_path, each, every, measured):
    run = planned(tmp_path, every)
    assert run.id != each.id
    assert execute(run, Resources(), StopAfter(14)) == "stopped"  # 5 steps an epoch: within the third one
    if every == 2:
        assert run.read("state")["metric"] == lines(run.path / "metrics.jsonl")[1]["top1"]
    assert execute(run, Resources(), never) == "done"
    assert left(run) == left(each)
    for line, full in zip(lines(run.path / "metrics.jsonl"), lines(each.path / "metrics.jsonl"), strict=True):
        scored = line["epoch"] in measured
        assert line == {name: value for name, value in full.items() if scored or name not in SCORES}
    assert run.read("state")["metric"] == run.read("result")["top1"]
    assert len(lines(run.path / "timing.jsonl")) == EPOCHS


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, each):
    run = planned(tmp_path, 4)
    child = job(run, Resources(save_steps=1))
    deadline = time.monotonic() + 60
    while len(list(run.checkpoints.glob("step-*.pt"))) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert execute(run, Resources(), never) == "done"
    assert left(run) == left(each)


@pytest.mark.parametrize(("every", "passes"), [(1, 5), (2, 3), (3, 2), (4, 2), (5, 1), (9, 1)])
def test_the_passes_that_are_made_are_counted(tmp_path, every, passes):
    evaluations = {"finetune": {**FINETUNE, "epochs": EPOCHS, "evaluate_every": every}}
    run = planned_runs(tmp_path, experiment("supervised", "swin", evaluations=evaluations))["finetune"]
    found = job_of(run.read("config")["job"])
    found = found.model_copy(update={"encoder": _counted()})
    work = stages["finetune"].work(found)
    assert work is not None and work.passed == passes * 355
    assert work.trained == EPOCHS * 100


def _counted():
    """An encoder whose multiply-adds are known."""
    from mixmae.experiment.experiment import Experiment
    from mixmae.experiment.jobs import stage_jobs

    exp = Experiment.model_validate(
        {"method": "supervised", "encoder": "swin_nano", "image_size": 32, "evaluations": {"knn": {}}}
    )
    return stage_jobs(exp, lambda data: "test")[0].job.encoder
