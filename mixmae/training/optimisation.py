"""AdamW's parameter groups and the learning rate a step: timm's, set by a recipe."""

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from mixmae.config import FinetuneRecipe, Optimisation


def pretraining_optimizer(method: nn.Module, recipe: Optimisation) -> torch.optim.AdamW:
    """No weight decay for one-dimensional parameters, biases and the names in `method.no_weight_decay()`."""
    groups = param_groups_weight_decay(method, recipe.weight_decay, no_weight_decay_list=method.no_weight_decay())
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def finetuning_optimizer(model: nn.Module, recipe: FinetuneRecipe) -> torch.optim.AdamW:
    """As for pretraining, each layer's `lr_scale` being layer_decay ** (layers above it)."""
    groups = param_groups_layer_decay(
        model, recipe.weight_decay, no_weight_decay_list=model.no_weight_decay(), layer_decay=recipe.layer_decay
    )
    if recipe.head_as_last_block:
        top = max(group["lr_scale"] for group in groups)
        for group in groups:
            if group["lr_scale"] == top:
                group["lr_scale"] *= recipe.layer_decay
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def schedule(optimizer: torch.optim.Optimizer, recipe: Optimisation, steps_per_epoch: int) -> Scheduler:
    """Call `step_update(step)` before optimiser step `step` (from 0). Groups get their `lr_scale` of the rate.

    Warm-up is linear from warmup_lr at step 0 to lr at its end. The cosine then runs from lr to min_lr over the
    remaining steps (MAE's `adjust_learning_rate`); "multistep" decays at the start of epoch e for e in decay_epochs.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if recipe.schedule == "multistep":
        # timm compares milestones with step + 1, hence the 1 more.
        return MultiStepLRScheduler(
            optimizer,
            decay_t=sorted(epoch * steps_per_epoch + 1 for epoch in recipe.decay_epochs),
            decay_rate=recipe.decay_rate,
            warmup_t=warmup,
            warmup_lr_init=recipe.warmup_lr,
            warmup_prefix=False,
            t_in_epochs=False,
        )
    return CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * steps_per_epoch - warmup,
        lr_min=recipe.min_lr,
        warmup_t=warmup,
        warmup_lr_init=recipe.warmup_lr,
        warmup_prefix=True,
        t_in_epochs=False,
    )


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The rate before layer decay."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_scale", 1.0)
