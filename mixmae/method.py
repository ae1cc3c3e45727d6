"""What the masked image modelling methods share: their output, masks, targets and initialisation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Output:
    """loss: scalar, float32. prediction: as the method's docstring says. mask: bool, True = hidden from the encoder's
    own image; None where nothing is masked."""

    loss: Tensor
    prediction: Tensor
    mask: Tensor | None


def draw_hidden(cells: int, hidden: int, rng: np.random.Generator) -> np.ndarray:
    """(cells,) bool with exactly `hidden` True."""
    mask = np.zeros(cells, dtype=bool)
    mask[rng.permutation(cells)[:hidden]] = True
    return mask


def fresh_rng() -> np.random.Generator:
    """For calls without a mask: drawn from torch's global generator, so that torch.manual_seed decides it."""
    return np.random.default_rng(int(torch.randint(2**62, ()).item()))


def unit_pixels(images: Tensor, unit: int) -> Tensor:
    """(B, 3, H, W) -> (B, units, unit² * 3), units row-major, a unit's pixels flattened (row, column, channel)."""
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // unit, unit, width // unit, unit)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, unit * unit * channels)


def reconstruction_target(images: Tensor, unit: int, normalised: bool) -> Tensor:
    """float32 unit pixels; `normalised`: by the unit's mean and unbiased variance, eps 1e-6 (He et al. 2022)."""
    target = unit_pixels(images.float(), unit)
    if not normalised:
        return target
    mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
    return (target - mean) / (variance + 1e-6).sqrt()


def reset_as_mae(method: nn.Module) -> None:
    """Patch embedding and linear layers: Xavier uniform, zero bias, as MAE and MixMAE start."""
    nn.init.xavier_uniform_(method.encoder.patch_embedding().proj.weight.data.flatten(1))
    for layer in method.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
