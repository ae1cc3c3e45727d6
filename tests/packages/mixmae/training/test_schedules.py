"""Warm-up by optimiser steps, and the fields of a recipe that came later."""

import math

import pytest
import torch
from pydantic import ValidationError

from mixmae.evaluations.finetune.spec import FinetuneRecipe
from mixmae.fields.identity import identity
from mixmae.training.optimisation import schedule
from mixmae.training.pretrain.spec import PretrainRecipe
from mixmae.training.recipe import Optimisation
from mixmae.training.resources import Resources
from mixmae.work.execution import execute
from support.tiny_jobs import FINETUNE, PRETRAIN, experiment, never, planned_runs

STEPS = 7
"""An epoch."""
GIVEN = {"epochs": 10, "batch": 512, "base_lr": 1e-3, "min_lr": 1e-6, "warmup_lr": 1e-5}
"""The learning rate is 2e-3."""


def rates(recipe: Optimisation) -> list[float]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    per_step = schedule(optimizer, recipe, STEPS)
    found = []
    for step in range(recipe.epochs * STEPS):
        per_step.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("warmup", [1, 5, 7, 13, 68, 69])
def test_the_cosine_after_a_warmup_by_steps_at_every_step(warmup):
    expected = [1e-5 + (2e-3 - 1e-5) * step / warmup for step in range(warmup)]
    expected += [
        1e-6 + (2e-3 - 1e-6) / 2 * (1 + math.cos(math.pi * (step - warmup) / (70 - warmup)))
        for step in range(warmup, 70)
    ]
    assert rates(Optimisation(**GIVEN, warmup_steps=warmup)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("warmup", [1, 5, 13])
def test_multistep_after_a_warmup_by_steps_at_every_step(warmup):
    recipe = Optimisation(**GIVEN, warmup_steps=warmup, schedule="multistep", decay_epochs=(3, 8), decay_rate=0.2)
    expected = [1e-5 + (2e-3 - 1e-5) * step / warmup for step in range(warmup)]
    expected += [2e-3 * 0.2 ** ((step >= 21) + (step >= 56)) for step in range(warmup, 70)]
    assert rates(recipe) == pytest.approx(expected, rel=1e-12)


def test_steps_are_epochs_where_they_are_as_many():
    assert rates(Optimisation(**GIVEN, warmup_steps=14)) == rates(Optimisation(**GIVEN, warmup_epochs=2.0))


@pytest.mark.parametrize("warmup", [70, 71, 1000])
def test_a_warmup_of_all_steps_is_refused(warmup):
    what = rf"warmup_steps: {warmup} is not less than the 70 steps of the run \(10 epochs of 7\); write fewer than 70"
    with pytest.raises(ValueError, match=what):
        rates(Optimisation(**GIVEN, warmup_steps=warmup))


def test_a_run_whose_warmup_never_ends_fails_saying_so(tmp_path):
    warmup = {"warmup_epochs": 0.0, "warmup_steps": 12}
    run = planned_runs(tmp_path, experiment(pretrain=warmup))["pretrain"]
    assert execute(run, Resources(), never) == "failed"
    reason = run.read("state")["reason"]
    assert reason.startswith("warmup_steps: 12 is not less than the 12 steps of the run (3 epochs of 4); write fewer")


@pytest.mark.parametrize("recipe", [PretrainRecipe, FinetuneRecipe])
def test_warmup_by_steps_and_by_epochs_at_once_are_refused(recipe):
    what = "5 warmup_epochs are given too; write warmup_epochs: 0 or leave these out"
    with pytest.raises(ValidationError, match=what):
        recipe(epochs=10, batch=8, base_lr=1e-3, warmup_epochs=5.0, warmup_steps=9)
    assert recipe(epochs=10, batch=8, base_lr=1e-3, warmup_epochs=0.0, warmup_steps=9).warmup_steps == 9


@pytest.mark.parametrize(
    "change",
    [{"warmup_steps": 0}, {"warmup_steps": 1.5}, {"ema_decay": 0.0}, {"ema_decay": 1.0}, {"precision": "fp16"}],
    ids=str,
)
def test_numbers_that_cannot_be_are_refused_at_their_field(change):
    with pytest.raises(ValidationError) as refused:
        FinetuneRecipe(**FINETUNE | {"warmup_epochs": 0.0} | change)
    assert [error["loc"] for error in refused.value.errors()] == [tuple(change)]


def test_later_fields_leave_ids_alone_until_they_are_set():
    def ids(recipe, given, *changes):
        return [identity(recipe(**given | {"warmup_epochs": 0.0} | change)) for change in changes]

    unset = {"warmup_steps": None}
    for recipe, given, more in (
        (PretrainRecipe, PRETRAIN, []),
        (FinetuneRecipe, FINETUNE, [{"ema_decay": 0.999}, {"ema_decay": 0.99}]),
    ):
        plain, same, *others = ids(recipe, given, {}, unset, {"warmup_steps": 5}, {"precision": "float16"}, *more)
        assert plain == same
        assert len({plain, *others}) == 1 + len(others)
