"""AdamW's parameter groups and the learning rate a step: timm's, set by a recipe."""

from collections.abc import Collection
from difflib import get_close_matches
from fnmatch import filter as filter_names
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from mixmae.fields.texts import many
from mixmae.training.recipe import Optimisation


def pretraining_optimizer(method: nn.Module, recipe: Optimisation) -> torch.optim.AdamW:
    """No weight decay for one-dimensional parameters, biases and what `no_decay` of the recipe says.

    Parameters that want no gradient are left out. Raises ValueError where a pattern of `no_decay` matches nothing.
    """
    groups = param_groups_weight_decay(method, recipe.weight_decay, no_weight_decay_list=spared(method, recipe))
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def spared(model: Any, recipe: Optimisation) -> Collection[str]:
    """Patterns of the names of parameters that have no weight decay besides vectors and biases."""
    if recipe.no_decay is None:
        return model.no_weight_decay()
    names = [name for name, _ in model.named_parameters()]
    for pattern in recipe.no_decay:
        if not filter_names(names, pattern):
            near = (get_close_matches(pattern, names, 1, cutoff=0.0) or names)[0]
            raise ValueError(f"no_decay: {pattern!r} matches no parameter of the model; write a name such as {near}")
    return recipe.no_decay


def schedule(optimizer: torch.optim.Optimizer, recipe: Optimisation, steps_per_epoch: int) -> Scheduler:
    """Call `step_update(step)` before optimiser step `step` (from 0). Groups get their `lr_scale` of the rate.

    Warm-up is linear from warmup_lr at step 0 to lr at its end. The cosine then runs from lr to min_lr over the
    remaining steps (MAE's `adjust_learning_rate`); "multistep" decays at the start of epoch e for e in decay_epochs.
    Raises ValueError where warm-up takes all steps.
    """
    warmup = _warmup(recipe, steps_per_epoch)
    if recipe.schedule == "multistep":
        # timm compares milestones with step + 1, hence the 1 more.
        return MultiStepLRScheduler(
            optimizer,
            decay_t=sorted(epoch * steps_per_epoch + 1 for epoch in recipe.decay_epochs),
            decay_rate=recipe.decay_rate,
            warmup_t=warmup,  # type: ignore[arg-type]  # timm computes with floats
            warmup_lr_init=recipe.warmup_lr,
            warmup_prefix=False,
            t_in_epochs=False,
        )
    return CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * steps_per_epoch - warmup,  # type: ignore[arg-type]  # timm computes with floats
        lr_min=recipe.min_lr,
        warmup_t=warmup,  # type: ignore[arg-type]
        warmup_lr_init=recipe.warmup_lr,
        warmup_prefix=True,
        t_in_epochs=False,
    )


def _warmup(recipe: Optimisation, steps_per_epoch: int) -> float:
    """Steps of warm-up, which need not be whole where they are given in epochs."""
    if recipe.warmup_steps is None:
        return recipe.warmup_epochs * steps_per_epoch
    steps = recipe.epochs * steps_per_epoch
    if recipe.warmup_steps >= steps:
        what = f"{recipe.warmup_steps} is not less than the {steps} steps of the run"
        per_epoch = f"{many(recipe.epochs, 'epoch')} of {steps_per_epoch}"
        raise ValueError(f"warmup_steps: {what} ({per_epoch}); write fewer than {steps}, or more epochs")
    return recipe.warmup_steps


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The rate before layer decay."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_scale", 1.0)
