"""What happens to an image before it is pretrained on."""

from timm.data import create_transform

from mixmae.data.transforms import Transform, crop_and_flip
from mixmae.training.pretrain.spec import PretrainRecipe


def pretraining_transform(recipe: PretrainRecipe, size: tuple[int, int]) -> Transform:
    """Random resized crop and flip, as MAE, SimMIM and MixMAE have it."""
    crop = crop_and_flip(recipe.crop_scale, recipe.crop_ratio, recipe.flip, recipe.interpolation)
    return create_transform(size, is_training=True, color_jitter=None, **crop)  # type: ignore[arg-type]  # None: no jitter
