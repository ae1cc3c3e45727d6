"""AdamW with a learning rate for each layer."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from timm.optim import param_groups_layer_decay

from mixmae.evaluations.finetune.spec import FinetuneRecipe
from mixmae.training.optimisation import spared


def finetuning_optimizer(model: Any, recipe: FinetuneRecipe) -> torch.optim.AdamW:
    """As for pretraining, each layer's `lr_scale` being layer_decay ** (layers above it)."""
    layers: Any = SimpleNamespace(
        named_parameters=model.named_parameters, group_matcher=lambda coarse: _layers(model, recipe)
    )
    groups = param_groups_layer_decay(
        layers, recipe.weight_decay, no_weight_decay_list=spared(model, recipe), layer_decay=recipe.layer_decay
    )
    if recipe.head_as_last_block:
        top = max(group["lr_scale"] for group in groups)
        for group in groups:
            if group["lr_scale"] == top:
                group["lr_scale"] *= recipe.layer_decay
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def _layers(model: Any, recipe: FinetuneRecipe) -> Callable[[str], int]:
    """Layer id of a parameter's name. What leads from one stage to the next is counted to the block before it, or,
    where the recipe says so, to the one after it."""
    layer = model.group_matcher()
    if not recipe.merging_as_next_block:
        return layer
    leads = model.encoder.leads_to_next_stage
    return lambda name: layer(name) + (name.startswith("encoder.") and leads(name.removeprefix("encoder.")))
