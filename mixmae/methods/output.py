"""The base of pretraining methods, what they return, and how their masks are drawn."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mixmae.encoders.encoder import Encoder


@dataclass(frozen=True)
class Output:
    """loss: scalar, float32. prediction: as described by the method. mask: bool, True = hidden from the encoder's
    own image; None where nothing is masked."""

    loss: Tensor
    prediction: Tensor
    mask: Tensor | None


class Method(nn.Module):
    """Base of the modules that pretrain `encoder`: called with normalised images (B, 3, H, W) and optionally a mask, it
    returns an `Output`. Without a mask it draws one."""

    encoder: Encoder

    def draw_mask(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draws the mask of `count` images of the size the encoder was made for, in the form that the method takes."""
        raise NotImplementedError

    def encoder_tokens(self, images: Tensor, mask: Tensor) -> Tensor:
        """Runs the encoder alone on a batch, as a training step does; for measuring."""
        raise NotImplementedError

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the parameters that weight decay leaves alone."""
        raise NotImplementedError


def draw_hidden(cells: int, hidden: int, rng: np.random.Generator) -> np.ndarray:
    """Draws (cells,) bool with exactly `hidden` True."""
    mask = np.zeros(cells, dtype=bool)
    mask[rng.permutation(cells)[:hidden]] = True
    return mask


def fresh_rng() -> np.random.Generator:
    """Makes a generator seeded by torch's, so that torch.manual_seed decides what calls without a mask draw."""
    return np.random.default_rng(int(torch.randint(2**62, ()).item()))
