"""Fixed sin-cos position embeddings."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=32)
def sincos_positions(width: int, size: tuple[int, int]) -> Tensor:
    """(rows * columns, width) float32, row-major: first half of the channels from the column, second from the row.

    Each half is [sin, cos] of position * ω, ω_i = 10000^(-i / (width / 4)) (He et al. 2022, official formula).
    """
    omega = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width / 4))
    row, column = np.divmod(np.arange(size[0] * size[1]), size[1])
    halves = [
        part for place in (column, row) for part in (np.sin(place[:, None] * omega), np.cos(place[:, None] * omega))
    ]
    return torch.from_numpy(np.concatenate(halves, 1)).float()
