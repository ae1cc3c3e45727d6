"""The target of reconstruction: the pixels of units."""

from torch import Tensor


def unit_pixels(images: Tensor, unit: int) -> Tensor:
    """(B, 3, H, W) -> (B, units, unit² * 3), units row-major, a unit's pixels flattened (row, column, channel)."""
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // unit, unit, width // unit, unit)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, unit * unit * channels)


def reconstruction_target(images: Tensor, unit: int, normalised: bool) -> Tensor:
    """Returns unit pixels, float32; `normalised`: by a unit's mean and unbiased variance, eps 1e-6 (He et al. 2022)."""
    target = unit_pixels(images.float(), unit)
    if not normalised:
        return target
    mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
    return (target - mean) / (variance + 1e-6).sqrt()
