"""timm's image transforms: PIL image in, normalised (3, H, W) float32 tensor out."""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform

from mixmae.fields.model import Range

Transform = Callable[[Image.Image], torch.Tensor]


def evaluation_transform(size: tuple[int, int], crop: float) -> Transform:
    """Returns the transform that resizes (bicubic) so that the central crop is the share `crop` of the shorter side."""
    return create_transform(size, is_training=False, crop_pct=crop, interpolation="bicubic")


def crop_and_flip(scale: Range, ratio: Range, flip: bool, interpolation: str) -> dict[str, Any]:
    """Returns the arguments of timm's training transforms for a random resized crop and a horizontal flip."""
    return {"scale": scale, "ratio": ratio, "hflip": 0.5 if flip else 0.0, "interpolation": interpolation}
