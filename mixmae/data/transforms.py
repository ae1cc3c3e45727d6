"""timm's image transforms, set by a recipe: PIL image in, normalised (3, H, W) float32 tensor out."""

from collections.abc import Callable

import torch
from PIL import Image
from timm.data import create_transform

from mixmae.config import FinetuneRecipe, PretrainRecipe

Transform = Callable[[Image.Image], torch.Tensor]


def pretraining_transform(recipe: PretrainRecipe, size: tuple[int, int]) -> Transform:
    """Random resized crop (bicubic) and flip, as MAE, SimMIM and MixMAE have it."""
    return create_transform(size, is_training=True, color_jitter=None, **_crop_and_flip(recipe))


def finetuning_transform(recipe: FinetuneRecipe, size: tuple[int, int]) -> Transform:
    """Crop, flip, RandAugment (or else colour jitter) and random erasing with noise, as MAE's fine-tuning has it."""
    return create_transform(
        size,
        is_training=True,
        auto_augment=recipe.rand_augment,
        color_jitter=recipe.color_jitter,
        re_prob=recipe.erase,
        re_mode="pixel",
        **_crop_and_flip(recipe),
    )


def evaluation_transform(size: tuple[int, int], crop: float) -> Transform:
    """Resize so that the central crop takes the share `crop` of the shorter side (bicubic), then cut it out."""
    return create_transform(size, is_training=False, crop_pct=crop, interpolation="bicubic")


def _crop_and_flip(recipe: PretrainRecipe | FinetuneRecipe) -> dict:
    flip = 0.5 if recipe.flip else 0.0
    return {"scale": recipe.crop_scale, "ratio": recipe.crop_ratio, "hflip": flip, "interpolation": "bicubic"}
