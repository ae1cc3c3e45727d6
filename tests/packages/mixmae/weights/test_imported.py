"""Experiments that start from a weights file instead of a pretraining, and classifiers evaluated from a file."""

import json

import pytest
import torch
from PIL import Image

from ablations.grid.file import Case
from ablations.local.running import run_here
from ablations.plan.plan import plan
from ablations.plan.queueing import create_run
from mixmae.data.image_folder.spec import ImageFolderConfig
from mixmae.evaluations.stored import evaluate
from mixmae.experiment.jobs import stage_jobs
from mixmae.experiment.reading import read_experiment
from mixmae.fields.documents import ConfigError
from mixmae.files.records import sha256
from mixmae.training.resources import Resources
from mixmae.weights.description import Description
from mixmae.weights.opened import open_run
from mixmae.weights.stored import build, save
from mixmae.work.execution import execute
from results.rows.collect import collect
from support.tiny_jobs import ENCODERS, experiment, never, planned_runs

FINETUNE = "{epochs: 1, batch: 20, base_lr: 1.0e-3, subset: {labels_per_class: 10}}"
EVALUATIONS = f"{{knn: {{k: 5}}, linear: {{epochs: 2}}, finetune: {FINETUNE}}}"


def description(classes: int | None = None, family: str = "swin") -> Description:
    """Of a tiny encoder for 32 px, with or without a head."""
    job = stage_jobs(experiment("mixmae", family), lambda data: "")[0].job
    return Description(encoder=job.encoder, image_size=job.image_size, classes=classes)


def weights_file(path, classes: int | None = None, seed: int = 0):
    torch.manual_seed(seed)
    save(path, build(description(classes)), description(classes))
    return path


def case(folder, weights: str, encoder: str = "swin") -> Case:
    file = folder / "imported.yaml"
    text = f"method: {{name: imported, path: {weights}}}\nencoder: {json.dumps(ENCODERS[encoder])}\nimage_size: 32\n"
    file.write_text(text + f"data: digits\nevaluations: {EVALUATIONS}\n")
    return Case("all", *read_experiment(file))


def test_evaluations_start_from_the_file(tmp_path):
    file = weights_file(tmp_path / "encoder.safetensors")
    planned = plan("imported", [case(tmp_path, str(file))], tmp_path / "runs")
    assert [entry.planned.stage for entry in planned.entries] == ["knn", "linear", "finetune"], "as written"
    assert {entry.method for entry in planned.entries} == {"imported"}
    assert run_here(planned, Resources()) == 0
    frame = collect(tmp_path / "runs").set_index("stage")
    assert set(frame["method"]) == {"imported"} and set(frame["weights"]) == {"encoder.safetensors"}
    from_random = experiment("supervised", "swin", evaluations={"knn": {"k": 5}})
    random = planned_runs(tmp_path / "random", from_random)["knn"]
    assert execute(random, Resources(), never) == "done"
    assert frame.loc["knn", "top1"] != random.read("result")["top1"], "the file's weights are not the seed's"


def test_the_same_weights_under_another_name_are_the_same_run(tmp_path):
    first = weights_file(tmp_path / "one.safetensors")
    (tmp_path / "two.safetensors").write_bytes(first.read_bytes())
    other = weights_file(tmp_path / "three.safetensors", seed=1)
    ids = []
    for file in (first, tmp_path / "two.safetensors", other):
        ids.append([entry.planned.id for entry in plan("x", [case(tmp_path, str(file))], tmp_path / "runs").entries])
    assert ids[0] == ids[1] and not set(ids[0]) & set(ids[2])


def test_weights_that_changed_since_the_plan_are_refused(tmp_path):
    file = weights_file(tmp_path / "encoder.safetensors")
    planned = plan("imported", [case(tmp_path, str(file))], tmp_path / "runs")
    entry = next(entry for entry in planned.entries if entry.planned.stage == "knn")
    run = create_run(planned.root, entry.planned)
    weights_file(file, seed=1)
    assert execute(run, Resources(), never) == "failed"
    assert "not the file that was planned" in run.read("state")["reason"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"hello, this is text", "not a safetensors file; import it first"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "says nothing of its model; import it first"),
        (b"\x04\x00\x00\x00\x00\x00\x00\x00{{{{", "whose header is damaged"),
    ],
)
def test_a_file_that_cannot_be_is_refused_where_it_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"imported\.yaml:1:\d+: method\.path: .*{message}"):
        plan("x", [case(tmp_path, str(tmp_path / "bad.safetensors"))], tmp_path / "runs")


def test_another_encoder_is_refused_where_it_is_named(tmp_path):
    file = weights_file(tmp_path / "encoder.safetensors")
    with pytest.raises(ConfigError, match=r"imported\.yaml:2:\d+: encoder: encoder\.safetensors holds a swin"):
        plan("x", [case(tmp_path, str(file), encoder="pvt")], tmp_path / "runs")


# ------------------------------------------------------------------------------------------------ weights evaluate


@pytest.fixture
def images(tmp_path):
    """Ten classes of plain colours, two validation images each."""
    for split, count in (("train", 1), ("val", 2)):
        for label in range(10):
            folder = tmp_path / "images" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 48), (label * 25, 255 - label * 25, number * 9)).save(folder / f"{number}.png")
    return ImageFolderConfig(path=str(tmp_path / "images"))


def test_a_classifier_is_evaluated_as_after_its_fine_tuning(tmp_path, images):
    file = weights_file(tmp_path / "classifier.safetensors", classes=10)
    found = evaluate(file, images, eval_crop=0.875, batch=7, workers=0)
    assert (found["images"], found["image_size"]) == (20, [32, 32])
    assert found == evaluate(file, images, eval_crop=0.875, batch=20, workers=2)
    run = experiment("supervised", "swin", evaluations={"finetune": {"epochs": 1, "batch": 10, "base_lr": 1e-3}})
    run = run.model_copy(update={"data": images})
    folder = planned_runs(tmp_path / "runs", run)["finetune"]
    assert execute(folder, Resources(), never) == "done"
    opened = open_run(folder)
    save(tmp_path / "tuned.safetensors", opened.model, opened.description)
    after = evaluate(tmp_path / "tuned.safetensors", images, eval_crop=0.875, batch=10, workers=0)
    result = folder.read("result")
    assert (after["top1"], after["top5"]) == (result["top1"], result["top5"])
    assert after["loss"] == pytest.approx(result["loss"], rel=1e-6)


def test_only_classifiers_of_the_data_are_evaluated(tmp_path, images):
    with pytest.raises(ValueError, match="encoder, not a classifier; fine-tune it"):
        evaluate(weights_file(tmp_path / "encoder.safetensors"), images, 0.875, 4, 0)
    with pytest.raises(ValueError, match="a classifier of 7 classes; the data have 10"):
        evaluate(weights_file(tmp_path / "seven.safetensors", classes=7), images, 0.875, 4, 0)


def test_checksum(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
