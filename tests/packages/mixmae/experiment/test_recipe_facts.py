"""The official recipes against what their sources say, field by field, on the real models and schedules."""

import re
from functools import cache

import pytest
import torch

from mixmae.encoders.building import build_encoder
from mixmae.evaluations.finetune.optimisation import finetuning_optimizer
from mixmae.experiment.recipes import headers as recipes
from mixmae.methods.building import build_method
from mixmae.methods.classifier import Classifier
from mixmae.training.optimisation import pretraining_optimizer, schedule
from support.recipe_facts import FINETUNING, LAYERS_ABOVE, PRETRAINING, SPARED, job

IMAGES = 1_281_167
"""Of ImageNet-1K's train split."""

# ------------------------------------------------------------------------------------------------------ what is built


@cache
def method(name: str) -> torch.nn.Module:
    planned = job(name, "pretrain")
    with torch.device("meta"):
        return build_method(planned.method, build_encoder(planned.encoder, planned.image_size))


@cache
def classifier(name: str) -> torch.nn.Module:
    planned = job(name, "finetune")
    with torch.device("meta"):
        encoder = build_encoder(planned.encoder, planned.image_size)
        return Classifier(encoder, classes=1000, head_init_std=0.02)


def groups_by_name(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(one)]: group for group in optimizer.param_groups for one in group["params"]}
    assert set(found) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return found


def rate_at(recipe, epochs: float) -> float:
    """The learning rate of the first step that begins at or after `epochs` epochs of ImageNet-1K."""
    steps = IMAGES // recipe.batch
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    schedule(optimizer, recipe, steps).step_update(round(epochs * steps))
    return optimizer.param_groups[0]["lr"]


def last_rate(recipe) -> float:
    return rate_at(recipe, recipe.epochs - 1 / (IMAGES // recipe.batch))


# ------------------------------------------------------------------------------------------------------------- fields


def test_every_official_recipe_is_in_the_tables():
    official = set(recipes.names()) - {"digits_nano", "fashion_nano"}
    assert set(FINETUNING) == set(SPARED) == official
    assert set(PRETRAINING) == {name for name in official if not name.startswith("supervised")}
    assert set(LAYERS_ABOVE) | {"mae_twins_svt_large"} == set(PRETRAINING)


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_fields(name):
    fact, planned = PRETRAINING[name], job(name, "pretrain")
    assert planned.image_size == (fact["size"], fact["size"])
    dumped = planned.recipe.model_dump()
    assert planned.recipe.lr == pytest.approx(fact["lr"])
    for seen_elsewhere in ("base_lr", "base_batch", "no_decay"):  # the absolute rate above, the groups below
        del dumped[seen_elsewhere]
    assert dumped == {
        "epochs": fact["epochs"],
        "batch": fact["batch"],
        "chunk": fact["chunk"],
        "min_lr": pytest.approx(fact["min"]),
        "warmup_lr": pytest.approx(fact["start"]),
        "warmup_epochs": fact["warmup"],
        "warmup_steps": None,
        "schedule": "multistep" if fact["drop"] else "cosine",
        "decay_epochs": (fact["drop"],) if fact["drop"] else (),
        "decay_rate": 0.1,
        "betas": (0.9, fact["beta2"]),
        "weight_decay": 0.05,
        "clip_grad": fact["clip"],
        "drop_path": fact["path"],
        "precision": "auto",
        "crop_scale": (fact["crop"], 1.0),
        "crop_ratio": (3 / 4, 4 / 3),
        "interpolation": "bilinear" if name.startswith("simmim") else "bicubic",  # torchvision's default there
        "flip": True,
        "subset": {"fraction": None, "labels_per_class": None, "seed": None},
        "budget": None,
    }


@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning_fields(name):
    fact, planned = FINETUNING[name], job(name, "finetune")
    assert planned.image_size == (fact["size"], fact["size"])
    dumped = planned.recipe.model_dump()
    assert planned.recipe.lr == pytest.approx(fact["lr"])
    for seen_elsewhere in ("base_lr", "base_batch", "no_decay", "head_as_last_block", "merging_as_next_block"):
        del dumped[seen_elsewhere]
    assert dumped == {
        "epochs": fact["epochs"],
        "batch": fact["batch"],
        "chunk": fact["chunk"],
        "min_lr": pytest.approx(fact["min"]),
        "warmup_lr": pytest.approx(fact["start"]),
        "warmup_epochs": fact["warmup"],
        "warmup_steps": None,
        "schedule": "cosine",
        "decay_epochs": (),
        "decay_rate": 0.1,
        "betas": (0.9, 0.999),
        "weight_decay": 0.05,
        "clip_grad": fact["clip"],
        "drop_path": fact["path"],
        "precision": "auto",
        "layer_decay": fact["layer"],
        "table_resize": "bicubic" if name.startswith("mixmae") else "geometric",
        "head_init_std": pytest.approx(fact["head"]),
        "ema_decay": None,
        "label_smoothing": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "rand_augment": "rand-m9-mstd0.5-inc1",
        "color_jitter": fact["jitter"],
        "erase": 0.25,
        "crop_scale": (0.08, 1.0),
        "crop_ratio": (3 / 4, 4 / 3),
        "flip": True,
        "eval_crop": fact["test"],
        "measure": "val",
        "evaluate_every": 1,
        "predictions": True,
        "image_size": None,
        "windows": None,
        "subset": {"fraction": None, "labels_per_class": None, "seed": None},
    }


# ----------------------------------------------------------------------------------------------------------- schedules


def schedules() -> list:
    return [
        *(pytest.param(name, "pretrain", fact, id=f"{name}-pretrain") for name, fact in PRETRAINING.items()),
        *(pytest.param(name, "finetune", fact, id=f"{name}-finetune") for name, fact in FINETUNING.items()),
    ]


@pytest.mark.parametrize(("name", "stage", "fact"), schedules())
def test_the_schedule_at_chosen_steps(name, stage, fact):
    recipe = job(name, stage).recipe
    lr, least, start, warmup, epochs = (fact[column] for column in ("lr", "min", "start", "warmup", "epochs"))
    assert rate_at(recipe, 0) == pytest.approx(start, abs=1e-12)
    assert rate_at(recipe, warmup / 2) == pytest.approx((start + lr) / 2, rel=1e-3)
    assert rate_at(recipe, warmup) == pytest.approx(lr)
    if fact.get("drop"):
        assert rate_at(recipe, fact["drop"] - 0.01) == pytest.approx(lr)
        assert rate_at(recipe, fact["drop"]) == pytest.approx(lr / 10)
        assert last_rate(recipe) == pytest.approx(lr / 10)
        return
    # Half a cosine: a half of the way down half way, 1 / sqrt(2) more or less a quarter before and after.
    quarter, swing = (epochs - warmup) / 4, 0.5**0.5
    assert rate_at(recipe, warmup + quarter) == pytest.approx(least + (lr - least) * (1 + swing) / 2, rel=1e-3)
    assert rate_at(recipe, warmup + 2 * quarter) == pytest.approx((lr + least) / 2, rel=1e-3)
    assert rate_at(recipe, warmup + 3 * quarter) == pytest.approx(least + (lr - least) * (1 - swing) / 2, rel=2e-3)
    assert least <= last_rate(recipe) <= least + 1e-6 * lr


# ------------------------------------------------------------------------------------------------------ weight decay


@pytest.mark.parametrize("name", PRETRAINING)
def test_weight_decay_in_pretraining(name):
    model, recipe = method(name), job(name, "pretrain").recipe
    optimizer = pretraining_optimizer(model, recipe)
    assert_spared(model, groups_by_name(model, optimizer), SPARED[name][0])
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, PRETRAINING[name]["beta2"])}
    assert {group["eps"] for group in optimizer.param_groups} == {1e-8}


@pytest.mark.parametrize("name", FINETUNING)
def test_weight_decay_in_finetuning(name):
    model, recipe = classifier(name), job(name, "finetune").recipe
    optimizer = finetuning_optimizer(model, recipe)
    assert_spared(model, groups_by_name(model, optimizer), SPARED[name][1])
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}


def assert_spared(model: torch.nn.Module, groups: dict[str, dict], more: str | None) -> None:
    """Vectors and the names that `more` finds have no weight decay; all others have 0.05."""
    shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    assert more is None or any(re.search(more, name) and shapes[name] > 1 for name in groups)
    for name, group in groups.items():
        spared = shapes[name] <= 1 or bool(more and re.search(more, name))
        assert group["weight_decay"] == (0.0 if spared else 0.05), name


def test_fixed_positions_are_in_no_group():
    for name, fixed in (("mixmae_swin_base_600ep", "encoder.absolute_pos_embed"), ("mae_vit_base_1600ep", None)):
        model = method(name)
        groups = groups_by_name(model, pretraining_optimizer(model, job(name, "pretrain").recipe))
        fixed = fixed or "encoder.pos_embed"
        assert fixed in dict(model.named_parameters()) and fixed not in groups
    model = classifier("mixmae_swin_base_600ep")
    groups = groups_by_name(model, finetuning_optimizer(model, job("mixmae_swin_base_600ep", "finetune").recipe))
    assert "encoder.absolute_pos_embed" not in groups


def test_a_pattern_that_matches_nothing_is_an_error():
    recipe = job("supervised_swin_tiny", "finetune").recipe.model_copy(update={"no_decay": ("encoder.pos_block.*",)})
    with pytest.raises(ValueError, match=r"'encoder\.pos_block\.\*' matches no parameter.*write a name such as encod"):
        finetuning_optimizer(classifier("supervised_swin_tiny"), recipe)
    with pytest.raises(ValueError, match="'mask_tokens' matches no parameter.*write a name such as mask_token"):
        recipe = job("simmim_swin_base_100ep", "pretrain").recipe.model_copy(update={"no_decay": ("mask_tokens",)})
        pretraining_optimizer(method("simmim_swin_base_100ep"), recipe)


# -------------------------------------------------------------------------------------------------------- layer decay


def scales(name: str, **changed) -> dict[str, float]:
    recipe = job(name, "finetune").recipe.model_copy(update=changed)
    groups = groups_by_name(classifier(name), finetuning_optimizer(classifier(name), recipe))
    return {name: group["lr_scale"] for name, group in groups.items()}


@pytest.mark.parametrize("name", LAYERS_ABOVE)
def test_layer_decay_of_named_parameters(name):
    found, factor = scales(name), FINETUNING[name]["layer"]
    for parameter, above in LAYERS_ABOVE[name].items():
        assert found[parameter] == pytest.approx(factor**above), parameter


def test_the_head_of_the_released_mixmae_at_its_last_blocks_rate():
    """Its quirk: 0.7 × the learning rate, for final norm and head; switched off 1.0 ×, and nothing else changes."""
    name = "mixmae_swin_base_600ep"
    released, mended = scales(name), scales(name, head_as_last_block=False)
    slowed = {"head.weight", "head.bias", "encoder.norm.weight", "encoder.norm.bias"}
    assert {parameter for parameter in released if released[parameter] != mended[parameter]} == slowed
    assert {released[parameter] for parameter in slowed} == {0.7}
    assert {mended[parameter] for parameter in slowed} == {1.0}
    assert released["encoder.layers.3.blocks.1.mlp.fc2.weight"] == 0.7


def test_the_merging_of_the_released_mixmae_at_the_next_blocks_rate():
    name = "mixmae_swin_base_600ep"
    released, mended = scales(name), scales(name, merging_as_next_block=False)
    changed = {parameter for parameter in released if released[parameter] != mended[parameter]}
    assert changed == {parameter for parameter in released if ".downsample." in parameter}
    for stage, last in enumerate((1, 1, 17)):
        merging = f"encoder.layers.{stage}.downsample.reduction.weight"
        assert released[merging] == released[f"encoder.layers.{stage + 1}.blocks.0.mlp.fc1.weight"]
        assert mended[merging] == mended[f"encoder.layers.{stage}.blocks.{last}.mlp.fc1.weight"]


@pytest.mark.parametrize("name", ["supervised_twins_svt_base", "supervised_pvt_tiny"])
def test_merging_as_the_next_block_in_the_other_families(name):
    before = scales(name, layer_decay=0.5)
    after = scales(name, layer_decay=0.5, merging_as_next_block=True)
    changed = {parameter for parameter in before if before[parameter] != after[parameter]}
    assert changed == {p for p in before if re.search(r"patch_embeds\.[123]|(patch|pos)_embed[234]", p)}
    assert all(after[parameter] == 2 * before[parameter] for parameter in changed)


@pytest.mark.parametrize("name", [name for name in FINETUNING if name.startswith("supervised")])
def test_training_from_scratch_has_no_layer_decay(name):
    assert set(scales(name).values()) == {1.0}
