"""What happens to an image before it is fine-tuned on."""

from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment, posterize
from torchvision.transforms import Compose  # type: ignore[import-untyped]

from mixmae.data.transforms import Transform, crop_and_flip
from mixmae.evaluations.finetune.spec import FinetuneRecipe


def finetuning_transform(recipe: FinetuneRecipe, size: tuple[int, int]) -> Transform:
    """Crop, flip, RandAugment (or else colour jitter) and random erasing with noise, as MAE's fine-tuning has it."""
    transform = create_transform(
        size,
        is_training=True,
        auto_augment=recipe.rand_augment,
        color_jitter=recipe.color_jitter,  # type: ignore[arg-type]  # None: no jitter
        re_prob=recipe.erase,
        re_mode="pixel",
        **crop_and_flip(recipe.crop_scale, recipe.crop_ratio, recipe.flip, "bicubic"),
    )
    _let_posterize_keep_no_bits(transform)
    return transform


def _let_posterize_keep_no_bits(transform: Compose) -> None:
    """RandAugment at full magnitude asks for 0 bits: a black image, which Pillow 13 refuses to make."""
    for step in transform.transforms:
        if isinstance(step, RandAugment):
            for operation in step.ops:
                if operation.aug_fn is posterize:
                    operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **_) -> Image.Image:
    return posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)
