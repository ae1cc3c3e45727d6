import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from mixmae.data.batches import Samples, open_split
from mixmae.data.digits.spec import DigitsConfig
from mixmae.data.transforms import evaluation_transform
from mixmae.evaluations.features import extract, pixels
from mixmae.evaluations.knn.run import vote
from mixmae.evaluations.linear.run import standardised
from mixmae.evaluations.start import encoder_of
from mixmae.experiment.experiment import Experiment
from mixmae.experiment.jobs import stage_jobs
from mixmae.runs.folder import RunFolder
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import (
    DECODER,
    ENCODERS,
    FINETUNE,
    PRETRAIN,
    StopAfter,
    experiment,
    lines,
    never,
    planned_runs,
    session_in,
)

SMALL = {"fraction": 0.2}
ALL = {"finetune": {**FINETUNE, "epochs": 2}, "linear": {"epochs": 20, "subset": SMALL}, "knn": {"subset": SMALL}}


def run_all(root, exp, resources=None) -> dict[str, RunFolder]:
    runs = planned_runs(root, exp)
    for run in runs.values():
        assert execute(run, resources or Resources(), never) == "done", run.read("state")
    return runs


# -------------------------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("method", ["mixmae", "simmim", "mae"])
@pytest.mark.parametrize("family", list(ENCODERS))
def test_every_stage_of_every_method_and_family(tmp_path, method, family):
    runs = run_all(tmp_path, experiment(method, family, evaluations=ALL))
    assert list(runs) == ["pretrain", "finetune", "linear", "knn"]
    assert set(runs["pretrain"].read("result")) == {"schema", "loss", "epochs", "steps", "images", "files"}
    for stage in ("finetune", "linear", "knn"):
        result = runs[stage].read("result")
        assert set(result) == {"schema", "top1", "top5", "loss", "epochs", "files"}
        assert 0 <= result["top1"] <= result["top5"] <= 100
        assert runs[stage].read("state")["metric"] == result["top1"]


def test_frozen_evaluations_repeat_bit_for_bit(tmp_path):
    exp = experiment(evaluations={key: ALL[key] for key in ("linear", "knn")})
    first, second = (run_all(tmp_path / name, exp) for name in "ab")
    for stage in ("linear", "knn"):
        assert (first[stage].path / "result.json").read_bytes() == (second[stage].path / "result.json").read_bytes()
    metrics = [(runs["linear"].path / "metrics.jsonl").read_bytes() for runs in (first, second)]
    assert metrics[0] == metrics[1]


def test_from_scratch_learns_the_digits_and_reports_the_last_epoch(tmp_path):
    """More than half of the digits, no mixing: far above the 10 % of guessing."""
    recipe = {**FINETUNE, "epochs": 12, "subset": {"labels_per_class": 100}, "rand_augment": None, "erase": 0.0}
    recipe |= {"mixup": 0.0, "cutmix": 0.0, "flip": False, "crop_scale": (0.8, 1.0), "drop_path": 0.0, "eval_crop": 1.0}
    recipe |= {"base_lr": 6e-3, "layer_decay": 1.0}
    run = run_all(tmp_path, experiment("supervised", evaluations={"finetune": recipe}))["finetune"]
    metrics, result = lines(run.path / "metrics.jsonl"), run.read("result")
    assert result["top1"] > 60
    assert [line["epoch"] for line in metrics] == list(range(1, 13))
    assert (result["top1"], result["top5"], result["loss"]) == tuple(
        metrics[-1][k] for k in ("top1", "top5", "val_loss")
    )


def test_image_folders_of_oblong_images_run_with_workers(tmp_path):
    colours = {"red": (200, 30, 30), "blue": (30, 30, 200)}
    noise = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6)):
        for name, colour in colours.items():
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels_of = np.clip(np.array(colour) + noise.integers(-30, 30, (20, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels_of).save(folder / f"{number}.png")
    exp = Experiment.model_validate(
        {
            "method": {"name": "mixmae", **DECODER},
            "encoder": ENCODERS["swin"],
            "image_size": (16, 32),
            "data": {"name": "image_folder", "path": str(tmp_path / "data")},
            "pretrain": {**PRETRAIN, "subset": {}},
            "evaluations": {"finetune": {**FINETUNE, "batch": 16, "epochs": 4, "subset": {}}, "knn": {"k": 5}},
        }
    )
    runs = run_all(tmp_path / "runs", exp, Resources(workers=1))
    assert runs["knn"].read("result")["top1"] == 100.0
    assert runs["finetune"].read("result")["top5"] == 100.0


# ---------------------------------------------------------------------------------------------------------- pretraining


def test_an_evaluation_starts_from_the_pretrained_encoder(tmp_path):
    exp = experiment(evaluations={"knn": ALL["knn"]})
    pretrain, knn = run_all(tmp_path, exp).values()
    job = stage_jobs(exp, lambda data: knn.read("config")["data_fingerprint"])[1].job
    weights = load_file(pretrain.weights)
    for name, tensor in encoder_of(job, knn, drop_path=0.0).state_dict().items():
        assert torch.equal(tensor, weights[f"encoder.{name}"]), name
    random = job.model_copy(update={"pretraining": None})
    first, second = (encoder_of(random, knn, drop_path=0.0).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], weights[f"encoder.{name}"]) for name in first)


@pytest.mark.parametrize("stage", ["finetune", "linear", "knn"])
def test_without_its_pretraining_an_evaluation_fails(tmp_path, stage):
    runs = planned_runs(tmp_path, experiment(evaluations=ALL))
    assert execute(runs[stage], Resources(), never) == "failed"
    reason = runs[stage].read("state")["reason"]
    assert reason == f"its pretraining {runs['pretrain'].id} is not done (it is not started); run that first"
    assert execute(runs["pretrain"], Resources(), StopAfter(2)) == "stopped"
    assert execute(runs[stage], Resources(), never) == "failed"
    assert "(it is stopped)" in runs[stage].read("state")["reason"]
    assert runs[stage].read("result") is None


# ------------------------------------------------------------------------------------------------------- kNN and linear


def test_votes_equal_a_naive_count():
    rng = torch.Generator().manual_seed(0)
    known, asked = torch.randn(40, 6, generator=rng), torch.randn(7, 6, generator=rng)
    labels = torch.randint(4, (40,), generator=rng)
    expected = np.zeros((7, 4))
    for row, query in enumerate(asked.double()):
        cosines = [float(query @ key / (query.norm() * key.norm())) for key in known.double()]
        for index in sorted(range(40), key=lambda i: -cosines[i])[:5]:
            expected[row, labels[index]] += math.exp(cosines[index] / 0.07)
    np.testing.assert_allclose(vote(known, labels, asked, 4, k=5, temperature=0.07).numpy(), expected, rtol=1e-4)


def digit_pixels(tmp_path):
    transform = evaluation_transform((32, 32), 0.875)
    session = session_in(RunFolder(tmp_path, "knn", "x"))
    splits = [open_split(DigitsConfig(), split) for split in ("train", "val")]
    return [extract(session, pixels, Samples(split, transform, 0), list(range(len(split)))) for split in splits]


def test_raw_pixels_agree_with_sklearn(tmp_path):
    runs = run_all(tmp_path, experiment("supervised", evaluations={"knn": {"features": "pixels"}}))
    (known, labels), (asked, wanted) = digit_pixels(tmp_path)
    assert (known.shape, asked.shape) == ((1442, 3 * 32 * 32), (355, 3 * 32 * 32))
    judge = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    judge.fit(known.double().numpy(), labels.numpy())
    expected = 100 * np.mean(judge.predict(asked.double().numpy()) == wanted.numpy())
    assert runs["knn"].read("result")["top1"] == pytest.approx(expected, abs=0.3)
    assert expected > 90
    assert runs["knn"].read("config")["job"]["encoder"] is None


def test_more_neighbours_than_images_are_refused_before_anything_runs(tmp_path):
    recipe = {"k": 21, "subset": {"labels_per_class": 2}}
    run = planned_runs(tmp_path, experiment("supervised", evaluations={"knn": recipe}))["knn"]
    assert execute(run, Resources(), never) == "failed"
    assert run.read("state")["reason"] == "k: 21 neighbours among 20 training images; write 20 or less"


def test_features_are_standardised_by_the_train_split():
    train, val = torch.randn(50, 3) * 4 + 7, torch.randn(9, 3)
    seen, unseen = standardised(train, val)
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(unseen, (val - train.mean(0)) / train.std(0, correction=0))
    constant, _ = standardised(torch.ones(4, 1), torch.ones(2, 1))
    assert torch.equal(constant, torch.zeros(4, 1))


def test_linear_is_near_what_a_solver_finds_on_the_same_features(tmp_path):
    recipe = {"epochs": 300, "base_lr": 0.05}
    run = run_all(tmp_path, experiment("supervised", evaluations={"linear": recipe}))["linear"]
    job = stage_jobs(experiment("supervised", evaluations={"linear": recipe}), lambda data: "test")[0].job
    encoder = encoder_of(job, run, drop_path=0.0).eval()
    transform = evaluation_transform((32, 32), 0.875)
    session = session_in(run)
    (seen, labels), (unseen, wanted) = (
        extract(session, encoder.features, Samples(split, transform, 0), list(range(len(split))))
        for split in (open_split(DigitsConfig(), name) for name in ("train", "val"))
    )
    seen, unseen = standardised(seen, unseen)
    solver = LogisticRegression(C=100.0, max_iter=2000).fit(seen.numpy(), labels.numpy())
    expected = 100 * solver.score(unseen.numpy(), wanted.numpy())
    assert run.read("result")["top1"] == pytest.approx(expected, abs=4)
    assert run.read("result")["top1"] > 40


@pytest.mark.parametrize("stage", ["linear", "knn"])
def test_short_stages_stop_and_start_over(tmp_path, stage):
    exp = experiment("supervised", evaluations={stage: ALL[stage]})
    straight = run_all(tmp_path / "straight", exp)[stage]
    run = planned_runs(tmp_path / "halting", exp)[stage]
    assert execute(run, Resources(), StopAfter(5 if stage == "knn" else 20)) == "stopped"
    assert run.read("state")["reason"].endswith("starts over")
    assert execute(run, Resources(), never) == "done"
    assert (run.path / "result.json").read_bytes() == (straight.path / "result.json").read_bytes()


# ------------------------------------------------------------------------------------------------------ what is scored


@pytest.mark.parametrize("split", ["val", "tuning"])
def test_the_split_that_is_measured_is_scored_by_what_it_trains_on(tmp_path, split):
    """kNN on pixels, against scikit-learn's on the images themselves: weights of votes as ours, cosine as distance."""
    data = DigitsConfig(tuning=0.2)
    knn = {"features": "pixels", "eval_crop": 1.0, "k": 5, "measure": split}
    exp = experiment("supervised", evaluations={"knn": knn}, data=data)
    train, scored = (open_split(data, name) for name in ("train", split))

    def flat(part) -> np.ndarray:
        images = np.stack([np.asarray(part.image(index), dtype=float) for index in range(len(part))]) / 255
        return ((images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).reshape(len(part), -1)

    voters = KNeighborsClassifier(5, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07))
    expected = voters.fit(flat(train), train.labels).score(flat(scored), scored.labels)
    result = run_all(tmp_path, exp)["knn"].read("result")
    assert result["top1"] == pytest.approx(100 * expected, abs=1e-3)


@pytest.mark.parametrize("stage", ["finetune", "linear", "knn"])
def test_every_evaluation_scores_the_images_that_are_set_aside(tmp_path, stage, monkeypatch):
    data, opened = DigitsConfig(tuning=0.2), []
    recipe = {**ALL[stage], "measure": "tuning"}
    exp = experiment("supervised", evaluations={stage: recipe}, data=data)
    for module in ("mixmae.evaluations.start", "mixmae.evaluations.finetune.run"):
        monkeypatch.setattr(f"{module}.open_split", lambda data, split: opened.append(split) or open_split(data, split))
    result = run_all(tmp_path, exp)[stage].read("result")
    images = len(open_split(data, "tuning"))
    assert sorted(opened) == ["train", "tuning"]
    assert result["top1"] * images / 100 == pytest.approx(round(result["top1"] * images / 100), abs=1e-3)
