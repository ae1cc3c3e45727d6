"""MAE's linear probe as published: LARS against a plain one, warm-up, batch norm, and the stage as a whole."""

import math
import re

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from mixmae.evaluations.linear.run import optimizer_of, schedule_of, steps_per_epoch
from mixmae.evaluations.linear.spec import LinearRecipe
from mixmae.experiment.reading import read_experiment
from mixmae.experiment.recipes import headers as recipes
from mixmae.fields.identity import computed, identity
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import experiment, lines, never, planned_runs

MAE = {
    "epochs": 90,
    "batch": 16384,
    "full_batches": True,
    "optimizer": "lars",
    "base_lr": 0.1,
    "warmup_epochs": 10.0,
    "standardise": "batch_norm",
}

# ---------------------------------------------------------------------------------------------------------- optimiser


class PlainLars:
    """MAE's rule, written down from its description: a matrix's gradient (with weight decay) is scaled by
    0.001 |w| / |gradient|, or 1 where either is zero; momentum follows the scaling."""

    def __init__(self, parameters, lr: float, weight_decay: float):
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self.velocity = [0.0] * len(self.parameters)

    def step(self) -> None:
        for number, parameter in enumerate(self.parameters):
            update = parameter.grad.double()
            if parameter.ndim > 1:
                update = update + self.weight_decay * parameter.detach().double()
                sizes = parameter.detach().double().norm(), update.norm()
                update = update * (0.001 * sizes[0] / sizes[1] if min(sizes) > 0 else 1.0)
            self.velocity[number] = 0.9 * self.velocity[number] + update
            parameter.data = (parameter.detach().double() - self.lr * self.velocity[number]).to(parameter.dtype)


def head(zero: bool) -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(6, 4)
    nn.init.normal_(made.weight, std=0.0 if zero else 0.01)
    nn.init.zeros_(made.bias)
    return made


def losses(model: nn.Module, optimizer, scale: float) -> list[float]:
    found, drawn = [], torch.Generator().manual_seed(1)
    for _ in range(20):
        features, labels = torch.randn(16, 6, generator=drawn), torch.randint(4, (16,), generator=drawn)
        loss = F.cross_entropy(model(features), labels) * scale
        model.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("scale", [1.0, 1e-6, 0.0], ids=["gradients", "tiny gradients", "no gradients"])
@pytest.mark.parametrize("zero", [False, True], ids=["drawn", "zero weights"])
def test_lars_is_that_of_mae(scale, zero):
    recipe = LinearRecipe(optimizer="lars", base_lr=6.4)
    ours, plain = head(zero), head(zero)
    found = losses(ours, optimizer_of(ours, recipe), scale)
    assert found == pytest.approx(losses(plain, PlainLars(plain.parameters(), 6.4, 0.0), scale), rel=1e-5)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-8)
    assert scale == 0 or not torch.equal(ours.weight, head(zero).weight)


def test_weight_decay_is_in_the_update_of_matrices_alone():
    """By timm's denominator |gradient| + decay |w|: never larger than MAE's rule, and next to it at small decay."""
    after = {}
    for decay in (0.0, 1e-4, 0.1):
        model = head(zero=False)
        losses(model, optimizer_of(model, LinearRecipe(optimizer="lars", base_lr=6.4, weight_decay=decay)), 1.0)
        plain = head(zero=False)
        losses(plain, PlainLars(plain.parameters(), 6.4, decay), 1.0)
        after[decay] = ((model.weight - plain.weight).norm() / plain.weight.norm()).item()
        groups = optimizer_of(model, LinearRecipe(optimizer="lars", weight_decay=decay)).param_groups
        assert [(group["weight_decay"], group["params"][0].ndim) for group in groups] == [(decay, 2), (0.0, 1)]
    assert after[0.0] < 1e-5 and after[1e-4] < 1e-4
    assert after[0.1] < 0.005


def test_learning_rates_follow_mae():
    recipe, steps = LinearRecipe(**MAE), 78
    optimizer = optimizer_of(head(zero=False), recipe)
    schedule = schedule_of(optimizer, recipe, steps)
    for step in (0, 1, 390, 779, 780, 781, 3900, 7019):
        epoch = step / steps
        wanted = epoch / 10 if epoch < 10 else (1 + math.cos(math.pi * (epoch - 10) / 80)) / 2
        schedule.step_update(step)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([6.4 * wanted] * 2, abs=1e-12)


# -------------------------------------------------------------------------------------------------------------- config


def test_ids_of_what_could_be_written_before_stay():
    assert set(computed(LinearRecipe, LinearRecipe().model_dump(mode="json"))) == {
        "epochs", "batch", "base_lr", "base_batch", "weight_decay", "eval_crop", "subset",
    }  # fmt: skip
    changes = [{"optimizer": "lars"}, {"warmup_epochs": 1.0}, {"standardise": "batch_norm"}, {"full_batches": True}]
    assert len({identity(LinearRecipe(**change)) for change in [{}, *changes]}) == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 10, "warmup_epochs": 10.0}, "10 epochs are no more than the 10 of warmup_epochs; write more"),
        ({"batch": 1, "standardise": "batch_norm"}, "batch_norm needs two images a batch; write 2 or more"),
        ({"optimizer": "sgd"}, "'adamw', 'lars' or 'lbfgs'"),
    ],
)
def test_impossible_fields(fields, message):
    with pytest.raises(ValidationError, match=message):
        LinearRecipe(**fields)


@pytest.mark.parametrize("name", ["mae_vit_base_1600ep", "mae_vit_large_800ep"])
def test_the_recipes_of_mae(name, tmp_path):
    assert name in recipes.names()
    file = tmp_path / "mae.yaml"
    file.write_text(f"base: {name}\ndata: {{path: images}}\n", encoding="utf-8")
    assert read_experiment(file)[0].evaluations["linear"] == LinearRecipe(**MAE)


# --------------------------------------------------------------------------------------------------------------- stage


def test_steps_an_epoch():
    assert steps_per_epoch(1_281_167, LinearRecipe(**MAE)) == 78
    assert steps_per_epoch(257, LinearRecipe()) == 2
    assert steps_per_epoch(258, LinearRecipe(standardise="batch_norm")) == 2
    with pytest.raises(ValueError, match="is a single one, which batch_norm cannot .* write full_batches: true"):
        steps_per_epoch(257, LinearRecipe(standardise="batch_norm"))
    with pytest.raises(ValueError, match="255 training images are fewer than one batch of 256; write batch: 255 or"):
        steps_per_epoch(255, LinearRecipe(full_batches=True))


def run(root, recipe: dict):
    made = planned_runs(root, experiment("supervised", evaluations={"linear": recipe}))["linear"]
    assert execute(made, Resources(), never) == "done", made.read("state")
    return made


@pytest.mark.slow
def test_a_probe_as_maes_learns_and_repeats(tmp_path):
    small = {**MAE, "epochs": 40, "batch": 128, "base_lr": 8.0, "warmup_epochs": 4.0}
    first, second = (run(tmp_path / name, small) for name in "ab")
    for name in ("metrics.jsonl", "result.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    logged = lines(first.path / "metrics.jsonl")
    assert logged[-1]["step"] == 40 * (1442 // 128)
    assert [line["lr"] for line in logged[:5]] == sorted(line["lr"] for line in logged[:5])
    assert logged[-1]["lr"] < logged[4]["lr"] == pytest.approx(4.0, rel=0.02)
    assert logged[-1]["loss"] < 0.8 * logged[0]["loss"]
    assert first.read("result")["top1"] > 40


def test_batch_norm_standardises_without_the_train_split(tmp_path):
    """Running figures come near those of the split: the same probe standardised either way agrees to some points."""
    recipe = {"epochs": 60, "base_lr": 0.05}
    by_split, by_batch = (run(tmp_path, {**recipe, "standardise": how}) for how in ("train", "batch_norm"))
    assert by_split.id != by_batch.id
    assert by_batch.read("result")["top1"] == pytest.approx(by_split.read("result")["top1"], abs=5)


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_a_probe_that_gives_no_numbers_fails(tmp_path, optimizer):
    recipe = {"epochs": 3, "base_lr": 1e37, "optimizer": optimizer}
    made = planned_runs(tmp_path, experiment("supervised", evaluations={"linear": recipe}))["linear"]
    assert execute(made, Resources(), never) == "failed"
    assert re.match(
        r"step \d+ gave no numbers: loss (nan|inf), learning rate .*; lower base_lr", made.read("state")["reason"]
    )
    assert made.read("result") is None
