"""The base class of encoders, and how images are cut into units and embedded."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixmae.attention.blocks import strided_convolution
from mixmae.attention.layouts import Layout, recursive_offsets, whole_layout


class PatchEmbedding(nn.Module):
    """A strided convolution and a norm; called, it embeds the tokens of an earlier stage (B, N, C) in unit order."""

    def __init__(self, in_width: int, width: int, side: int, norm=nn.LayerNorm):
        super().__init__()
        self.proj = nn.Conv2d(in_width, width, side, side)
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(strided_convolution(self.proj, x))


class Encoder(nn.Module):
    """Base of every encoder: called with images (B, 3, H, W), it returns tokens (B, units, width), row-major.

    A family gives `forward`, `encode` and whatever raises NotImplementedError here.
    """

    hierarchical: bool
    """Whether a unit holds several tokens of the first stage."""
    extra_tokens: int
    """Tokens beside those of patches, such as a class token."""
    stages: int
    image_size: tuple[int, int]
    """Height and width in pixels that positions and windows are made for."""
    patch_size: int
    unit: int
    """Side in pixels of a token of the last stage."""
    width: int
    """Channels of a token of the last stage."""
    widths: tuple[int, ...]
    """Channels of each stage; hierarchical encoders alone have it."""
    style: str
    """How a ViT is built, see `ViT`; ViTs alone have it."""
    encode: Any
    """Tokens of the first stage -> those of the last; what says where they lie differs between the kinds."""

    def patch_embedding(self) -> PatchEmbedding:
        """Returns the embedding of the first stage."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width): what a linear head classifies."""
        raise NotImplementedError

    def checkpoint_blocks(self, on: bool) -> None:
        """Gradient checkpointing: every block keeps its input alone and is computed again in the backward pass."""
        raise NotImplementedError

    def train_positions(self) -> None:
        """Lets the optimizer train positions that are fixed in pretraining, where fine-tuning does so."""

    def no_weight_decay(self) -> set[str]:
        """Returns the names of the parameters that weight decay leaves alone."""
        raise NotImplementedError

    @property
    def last_layer(self) -> int:
        """Layer id, for layer-wise learning rates, of final norm and head; the embedding has 0, each block its own."""
        raise NotImplementedError

    def layer_of(self, name: str) -> int:
        """Returns the layer id of the parameter `name`."""
        raise NotImplementedError

    def leads_to_next_stage(self, name: str) -> bool:
        """Whether the parameter `name` lies between two stages, counted to the block before it."""
        raise NotImplementedError

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Returns images' rows and columns in units. Raises ValueError where a unit does not divide a side."""
        height, width = images.shape[-2:]
        if height % self.unit or width % self.unit:
            raise ValueError(f"{height} x {width} px images: both sides must be multiples of the unit, {self.unit} px")
        return height // self.unit, width // self.unit

    def whole(self, images: Tensor) -> Layout:
        """Returns the layout of plain attention over whole images (B, 3, H, W)."""
        return whole_layout(self.grid(images), self.stages, images.device)

    def pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, units, tokens a unit, 3 * patch²): units row-major, tokens of a unit in unit order."""
        rows, columns = self.grid(images)
        side, patch = 2 ** (self.stages - 1), self.patch_size
        x = images.reshape(len(images), -1, rows, side, patch, columns, side, patch)
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(len(images), rows * columns, side * side, -1)
        offsets = torch.from_numpy(recursive_offsets(side)).to(images.device)
        return x[:, :, offsets[:, 0] * side + offsets[:, 1]]

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, n units, tokens a unit, 3 * patch²) -> tokens of the first stage (B, N, channels), before positions."""
        first = self.patch_embedding()
        return first.norm(F.linear(pixels.flatten(1, 2), first.proj.weight.flatten(1), first.proj.bias))
