"""What a method returns, and how its masks are drawn."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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
