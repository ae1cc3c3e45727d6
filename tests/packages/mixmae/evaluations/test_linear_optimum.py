"""The linear probe's optimum against scikit-learn's, and what goes with `optimizer: lbfgs`."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from torch import nn

from mixmae.data.batches import Samples, open_split
from mixmae.data.digits.spec import DigitsConfig
from mixmae.data.draws import subset
from mixmae.data.subset import Subset
from mixmae.data.transforms import evaluation_transform
from mixmae.evaluations.features import extract, pixels
from mixmae.evaluations.linear import optimum
from mixmae.evaluations.linear.optimum import NotConverged, fit, objective
from mixmae.evaluations.linear.run import standardised
from mixmae.evaluations.linear.spec import LinearRecipe
from mixmae.experiment.jobs import stage_jobs
from mixmae.experiment.stages import stages
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import StopAfter, experiment, never, planned_runs, session_in

LBFGS = {"optimizer": "lbfgs", "weight_decay": 1e-3, "subset": {"fraction": 0.2}}


def problem(images=300, width=24, classes=5):
    """Features of which half are near copies of the others, and labels that only some of them tell."""
    rng = torch.Generator().manual_seed(3)
    plain = torch.randn(images, width // 2, generator=rng)
    features = torch.cat([plain, plain + 0.05 * torch.randn(images, width // 2, generator=rng)], 1).double()
    features, _ = standardised(features, features)
    logits = features @ torch.randn(width, classes, generator=rng).double() + torch.randn(
        images, classes, generator=rng
    )
    return features, logits.argmax(1)


def started(features, labels):
    head = nn.Linear(features.shape[1], int(labels.max()) + 1).double()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def by_hand(weight, bias, features, labels, weight_decay) -> float:
    """The objective image by image."""
    total = 0.0
    for row, label in zip(features, labels, strict=True):
        logits = [float(w @ row) + b for w, b in zip(weight, bias, strict=True)]
        total += np.logaddexp.reduce(logits) - logits[label]
    return total / len(features) + weight_decay / 2 * float((weight**2).sum())


@pytest.mark.parametrize("weight_decay", [1.0, 1e-2, 1e-4, 1e-6])
def test_the_optimum_is_that_of_scikit_learn(weight_decay):
    features, labels = problem()
    head = started(features, labels)
    assert fit(head, features, labels, weight_decay, lambda: None) > 5
    solver = LogisticRegression(C=1 / (weight_decay * len(labels)), tol=1e-10, max_iter=50_000)
    solver.fit(features.numpy(), labels.numpy())
    theirs = by_hand(solver.coef_, solver.intercept_, features.numpy(), labels.numpy(), weight_decay)
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    ours = by_hand(weight, bias, features.numpy(), labels.numpy(), weight_decay)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert ours <= theirs + 1e-8, "nothing lies below the optimum"
    assert objective(head, features, labels, weight_decay).item() == pytest.approx(ours, rel=1e-12)


def test_what_is_not_converged_is_an_error(monkeypatch):
    monkeypatch.setattr(optimum, "ITERATIONS", 3)
    features, labels = problem()
    with pytest.raises(
        NotConverged, match=r"no optimum after 3 iterations of L-BFGS: .* larger weight_decay than 1e-06"
    ):
        fit(started(features, labels), features, labels, 1e-6, lambda: None)


def test_a_run_finds_the_optimum_whatever_its_seed(tmp_path):
    """On raw pixels of the same images: there is nothing left that a seed draws."""
    part = {"labels_per_class": 6, "seed": 5}
    recipe = {**LBFGS, "features": "pixels", "weight_decay": 1.0, "subset": part}
    results = []
    for seed in (0, 1):
        exp = experiment("supervised", evaluations={"linear": recipe}, seed=seed)
        run = planned_runs(tmp_path, exp)["linear"]
        assert execute(run, Resources(), never) == "done", run.read("state")
        assert run.read("config")["job"]["encoder"] is None
        results.append({name: value for name, value in run.read("result").items() if name != "files"})
        assert run.read("state")["metric"] == results[-1]["top1"]
    assert results[0] == results[1]
    assert results[0]["epochs"] == 0
    splits = [open_split(DigitsConfig(), split) for split in ("train", "val")]
    session, crop = session_in(run), evaluation_transform((32, 32), 0.875)
    of_both = (subset(splits[0].labels, Subset.model_validate(part), seed=77), list(range(len(splits[1]))))
    (seen, labels), (new, wanted) = (
        extract(session, pixels, Samples(split, crop, 0), of) for split, of in zip(splits, of_both, strict=True)
    )
    seen, new = standardised(seen, new)
    solver = LogisticRegression(C=1 / len(labels), tol=1e-8, max_iter=10_000)
    solver.fit(seen.double().numpy(), labels.numpy())
    assert results[0]["top1"] == pytest.approx(100 * solver.score(new.double().numpy(), wanted.numpy()), abs=1e-3)
    chance = solver.predict_log_proba(new.double().numpy())[np.arange(len(wanted)), wanted.numpy()]
    assert results[0]["loss"] == pytest.approx(-chance.mean(), abs=1e-4)


def test_a_pixel_that_no_training_image_varies_decides_nothing(tmp_path):
    """Of 60 digits many pixels are black throughout; in val they are not."""
    recipe = {"features": "pixels", "epochs": 10, "subset": {"labels_per_class": 6}}
    run = planned_runs(tmp_path, experiment("supervised", evaluations={"linear": recipe}))["linear"]
    assert execute(run, Resources(), never) == "done", run.read("state")
    assert run.read("result")["loss"] < 5 and run.read("result")["top1"] > 50


def test_a_stopped_optimum_starts_over(tmp_path):
    exp = experiment("supervised", evaluations={"linear": LBFGS})
    straight = planned_runs(tmp_path / "straight", exp)["linear"]
    run = planned_runs(tmp_path / "halting", exp)["linear"]
    assert execute(straight, Resources(), never) == "done"
    assert execute(run, Resources(), StopAfter(30)) == "stopped"
    assert run.read("state")["reason"] == "stopped while solving for the linear classifier; starts over"
    assert execute(run, Resources(), never) == "done"
    assert (run.path / "result.json").read_bytes() == (straight.path / "result.json").read_bytes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(
            ({name: 20}, f"the optimum, without steps; write {name}: null")
            for name in ("epochs", "batch", "base_batch")
        ),
        ({"base_lr": 0.1, "batch": 8}, "the optimum, without steps; write batch: null, base_lr: null"),
        ({"full_batches": True}, "lbfgs has no batches; write full_batches: false"),
        ({"warmup_epochs": 1.0}, "lbfgs has no epochs; write warmup_epochs: 0"),
        ({"standardise": "batch_norm"}, "lbfgs has no batches; write standardise: train"),
        ({"weight_decay": 0.0}, "lbfgs needs a penalty, .*; write weight_decay: 1.0e-3, or another number above 0"),
        ({"optimizer": "adamw", "epochs": None}, "lbfgs alone; write passes over the features"),
        ({"optimizer": "lars", "base_lr": None}, "lbfgs alone; write a learning rate"),
    ],
)
def test_what_does_not_go_with_an_optimum_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        LinearRecipe.model_validate({"optimizer": "lbfgs", "weight_decay": 1e-3, **fields})


def test_an_optimum_is_one_setting_however_it_is_written():
    plain = {"optimizer": "lbfgs", "weight_decay": 1e-3}
    ids = set()
    for more in ({}, {"epochs": None}, {"base_lr": None, "batch": None, "base_batch": None}):
        exp = experiment("supervised", evaluations={"linear": {**plain, **more}})
        ids |= {job.id for job in stage_jobs(exp, lambda data: "test")}
    assert len(ids) == 1
    dumped = LinearRecipe.model_validate(plain).model_dump(mode="json")
    assert [dumped[name] for name in ("epochs", "batch", "base_lr", "base_batch")] == [None] * 4
    assert LinearRecipe.model_validate(dumped).model_dump(mode="json") == dumped


def test_linear_on_pixels_has_no_encoder_and_no_start():
    exp = experiment(evaluations={"linear": {"features": "pixels"}, "knn": {"features": "pixels"}})
    pretrain, *evaluations = stage_jobs(exp, lambda data: "test")
    for planned in evaluations:
        assert (planned.job.encoder, planned.needs) == (None, None)
        assert stages[planned.stage].work(planned.job) is None
    assert pretrain.job.encoder is not None
