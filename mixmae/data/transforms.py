"""timm's image transforms, set by a recipe: PIL image in, normalised (3, H, W) float32 tensor out."""

from collections.abc import Callable

import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment, posterize
from torchvision.transforms import Compose

from mixmae.config import FinetuneRecipe, PretrainRecipe

Transform = Callable[[Image.Image], torch.Tensor]


def pretraining_transform(recipe: PretrainRecipe, size: tuple[int, int]) -> Transform:
    """Random resized crop and flip, as MAE, SimMIM and MixMAE have it."""
    crop = _crop_and_flip(recipe, recipe.interpolation)
    return create_transform(size, is_training=True, color_jitter=None, **crop)


def finetuning_transform(recipe: FinetuneRecipe, size: tuple[int, int]) -> Transform:
    """Crop, flip, RandAugment (or else colour jitter) and random erasing with noise, as MAE's fine-tuning has it."""
    transform = create_transform(
        size,
        is_training=True,
        auto_augment=recipe.rand_augment,
        color_jitter=recipe.color_jitter,
        re_prob=recipe.erase,
        re_mode="pixel",
        **_crop_and_flip(recipe, "bicubic"),
    )
    _let_posterize_keep_no_bits(transform)
    return transform


def evaluation_transform(size: tuple[int, int], crop: float) -> Transform:
    """Resize so that the central crop takes the share `crop` of the shorter side (bicubic), then cut it out."""
    return create_transform(size, is_training=False, crop_pct=crop, interpolation="bicubic")


def _crop_and_flip(recipe: PretrainRecipe | FinetuneRecipe, interpolation: str) -> dict:
    flip = 0.5 if recipe.flip else 0.0
    return {"scale": recipe.crop_scale, "ratio": recipe.crop_ratio, "hflip": flip, "interpolation": interpolation}


def _let_posterize_keep_no_bits(transform: Compose) -> None:
    """RandAugment at full magnitude asks for 0 bits: a black image, which Pillow 13 refuses to make."""
    for step in transform.transforms:
        if isinstance(step, RandAugment):
            for operation in step.ops:
                if operation.aug_fn is posterize:
                    operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **_) -> Image.Image:
    return posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)
