"""Predictions of single images: they are those that the figures count, whoever computes them, and are a file like
others."""

import numpy as np
import pytest
import torch

from mixmae.data.batches import Samples, open_split
from mixmae.data.placed_digits.spec import PlacedDigitsConfig
from mixmae.data.sources import sources
from mixmae.data.transforms import evaluation_transform
from mixmae.evaluations.accuracy import accuracies, predicted
from mixmae.evaluations.predicting import keep_predictions
from mixmae.experiment.jobs import stage_jobs
from mixmae.files.records import Damaged, sha256
from mixmae.runs.folder import RunFolder
from mixmae.runs.predictions import NOT_READ, Predictions, read_predictions, write_predictions
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support import several
from support.tiny_jobs import FINETUNE, experiment, never, planned_runs, session_in

SMALL = {"fraction": 0.2}
ALL = {
    "finetune": {**FINETUNE, "epochs": 2, "chunk": 10},
    "linear": {"epochs": 5, "subset": SMALL},
    "knn": {"subset": SMALL},
}
WITHOUT = {name: {**recipe, "predictions": False} for name, recipe in ALL.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, RunFolder]:
    runs = planned_runs(tmp_path_factory.mktemp("runs"), experiment(evaluations=ALL))
    for run in runs.values():
        assert execute(run, Resources(), never) == "done", run.read("state")
    return runs


@pytest.mark.parametrize("stage", list(ALL))
def test_what_is_kept_is_what_the_figure_counts(runs, stage):
    kept, result = read_predictions(runs[stage]), runs[stage].read("result")
    assert kept.labels.tolist() == open_split(experiment().data, "val").labels
    assert round(100 * kept.correct.mean(), 4) == pytest.approx(result["top1"], abs=1e-4)
    assert result["files"]["predictions.safetensors"] == sha256(runs[stage].predictions)
    assert runs[stage].predictions.stat().st_size < 2 * len(kept.labels) + 200


@pytest.mark.parametrize("stage", list(ALL))
def test_without_predictions_the_run_is_the_same_in_all_else(runs, stage, tmp_path):
    """The same id, so that a run which is done is not run again; the same figures and the same bits of other files."""
    run = planned_runs(tmp_path, experiment(evaluations=WITHOUT))[stage]
    assert run.id == runs[stage].id
    for before in ("pretrain", stage):
        assert execute(RunFolder(tmp_path, before, runs[before].id), Resources(), never) == "done"
    with_them, without = runs[stage].read("result"), run.read("result")
    del with_them["files"]["predictions.safetensors"]
    assert without == with_them and not run.predictions.exists() and read_predictions(run) is None


def test_on_two_processes_each_ones_share_is_gathered(runs, tmp_path):
    together = planned_runs(tmp_path, experiment(evaluations=ALL))
    paths = [run.path for run in together.values()]
    several.finish(several.start(2, several.jobs, Resources().model_dump_json(), *paths))
    kept = read_predictions(together["knn"])
    assert kept.labels.tolist() == read_predictions(runs["knn"]).labels.tolist()
    for stage in ALL:
        run = together[stage]
        assert round(100 * read_predictions(run).correct.mean(), 4) == pytest.approx(run.read("result")["top1"])


def test_the_same_predictions_are_the_same_bytes(tmp_path):
    run = RunFolder(tmp_path, "knn", "a")
    kept = Predictions(np.array([0, 1, 2]), np.array([2, 1, NOT_READ]))
    first = write_predictions(run, kept).read_bytes()
    assert write_predictions(run, kept).read_bytes() == first


@pytest.mark.parametrize(("classes", "width"), [(255, 1), (256, 2), (1000, 2), (70_000, 4)])
def test_every_class_and_what_could_not_be_read_comes_back(tmp_path, classes, width):
    run = RunFolder(tmp_path, "knn", "a")
    labels = np.arange(classes)
    found = np.where(labels % 3 == 0, NOT_READ, labels)
    write_predictions(run, Predictions(labels, found))
    run.commit({"top1": 1.0}, [run.predictions])
    kept = read_predictions(run)
    assert kept.labels.tolist() == labels.tolist() and kept.predicted.tolist() == found.tolist()
    assert kept.correct.tolist() == (labels % 3 != 0).tolist()
    assert 0 < run.predictions.stat().st_size - 2 * width * classes < 200


def test_ties_are_told_as_the_figure_counts_them():
    """Equal logits everywhere: whichever class timm takes for the first of five."""
    logits, labels = torch.zeros(40, 7), torch.arange(40) % 7
    assert accuracies(logits, labels)["top1"] == pytest.approx(
        100 * (predicted(logits) == labels).double().mean().item(), abs=1e-4
    )


def knn_job(**more):
    return stage_jobs(experiment(evaluations={"knn": {}}).model_copy(update=more), lambda data: "f")[-1].job


class Split:
    labels = [0, 1, 0, 1]
    bad_files = 4

    def __len__(self):
        return 4


def test_images_that_cannot_be_read_have_no_prediction(tmp_path):
    run = RunFolder(tmp_path, "knn", "a")
    samples = Samples(Split(), evaluation_transform((8, 8), 1.0), seed=0)
    samples.note({1: "b.png: broken"})
    paths = keep_predictions(session_in(run), knn_job(), samples, torch.tensor([1, 0, 1]))
    run.commit({"top1": 100.0}, paths)
    assert read_predictions(run).predicted.tolist() == [1, NOT_READ, 0, 1]


def test_where_it_is_not_known_of_which_image_they_are_nothing_is_kept(tmp_path, caplog):
    samples = Samples(Split(), evaluation_transform((8, 8), 1.0), seed=0)
    samples.note({1: "b.png: broken"})
    run = RunFolder(tmp_path, "knn", "a")
    assert keep_predictions(session_in(run), knn_job(), samples, torch.tensor([1, 0, 1, 1])) == ()
    assert "predictions are not kept: 4 images were read of 3 readable ones" in caplog.text


def test_a_changed_file_is_damaged_and_one_left_by_another_attempt_is_none(tmp_path):
    run = RunFolder(tmp_path, "knn", "a")
    write_predictions(run, Predictions(np.array([0, 1]), np.array([0, 1])))
    run.write("result", {"top1": 50.0, "files": {}})
    assert read_predictions(run) is None
    run.commit({"top1": 50.0}, [run.predictions])
    write_predictions(run, Predictions(np.array([0, 1]), np.array([1, 1])))
    with pytest.raises(Damaged, match=r"predictions.safetensors: damaged or changed"):
        read_predictions(run)
    run.predictions.unlink()
    assert read_predictions(run) is None


def test_sources_of_several_images_are_kept_together(tmp_path):
    """Placed digits: each source has as many consecutive val images as its spec says, all of one label."""
    data = PlacedDigitsConfig(name="placed_digits")
    split, copies = open_split(data, "val"), sources[data.name].copies(data, "val")
    samples = Samples(split, evaluation_transform((32, 32), 1.0), seed=0)
    run = RunFolder(tmp_path, "knn", "a")
    found = torch.tensor(split.labels)
    found[:3] += 1
    run.commit({"top1": 99.0}, keep_predictions(session_in(run), knn_job(data=data), samples, found))
    kept = read_predictions(run)
    assert kept.copies == copies == 4 and len(kept.correct) == len(split) // copies
    assert kept.correct.tolist() == [1] + [4] * (len(split) // 4 - 1)


def test_ids_do_not_know_of_predictions():
    plain, without = (stage_jobs(experiment(evaluations=one), lambda data: "f") for one in (ALL, WITHOUT))
    assert [planned.id for planned in plain] == [planned.id for planned in without]
    assert [planned.job.recipe.predictions for planned in without[1:]] == [False] * 3
