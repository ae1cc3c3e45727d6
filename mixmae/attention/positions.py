"""Sin-cos position embeddings, and tables of positions at another size."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@lru_cache(maxsize=32)
def sincos_positions(width: int, size: tuple[int, int]) -> Tensor:
    """Returns (rows * columns, width) float32: first half of the channels from the column, second from the row.

    Rows are in row-major order. Each half is [sin, cos] of position * ω, ω_i = 10000^(-i / (width / 4)) (He et al.
    2022, official formula).
    """
    omega = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width / 4))
    row, column = np.divmod(np.arange(size[0] * size[1]), size[1])
    halves = [
        part for place in (column, row) for part in (np.sin(place[:, None] * omega), np.cos(place[:, None] * omega))
    ]
    return torch.from_numpy(np.concatenate(halves, 1)).float()


def fixed_positions(width: int, size: tuple[int, int], class_row: bool = False) -> nn.Parameter:
    """Returns (1, rows * columns, width), sin-cos, not trained; with `class_row` a row of zeros before the others.

    A parameter, as in the official classes, so that it is saved, counted, and kept when it was made for another size.
    """
    table = F.pad(sincos_positions(width, size), (0, 0, int(class_row), 0)).unsqueeze(0)
    return nn.Parameter(table.to(torch.get_default_device(), copy=True), requires_grad=False)


def resized_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int], mode: str) -> Tensor:
    """Interpolates (1, rows * columns, width) of grid `old` to grid `new`: "bicubic" (the fine-tuning codes of MAE and
    MixMAE) or "bilinear" (PVT)."""
    square = table.transpose(1, 2).unflatten(2, old)
    return F.interpolate(square, size=new, mode=mode, align_corners=False).flatten(2).transpose(1, 2)
