"""What the hierarchical encoders share: pixels in unit order, the walk through the stages, features and maps."""

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mixmae.attention.blocks import Block, strided_convolution
from mixmae.attention.layouts import Layout, StageLayout, recursive_offsets, whole_layout
from mixmae.encoders.families import Hierarchical


class HierarchicalEncoder(nn.Module):
    """Base of Swin, Twins and PVT. A family gives `patch_embedding`, `enter`, `run_stage`, `norm`, `layer_of` and
    `leads_to_next_stage`.

    Tokens are (B, N, width of the stage) in the unit order of a `Layout`; a layout decides what is present and who
    attends with whom, so plain, masked and visible-only encoding are one code path.
    """

    hierarchical = True
    extra_tokens = 0

    def __init__(self, config: Hierarchical, image_size: tuple[int, int]):
        super().__init__()
        self.image_size = tuple(image_size)
        self.patch_size, self.widths, self.depths = config.patch_size, config.widths, config.depths
        self.stages, self.unit, self.width = config.stages, config.unit, config.out_width

    def checkpoint_blocks(self, on: bool) -> None:
        """Gradient checkpointing: every block keeps its input alone and is computed again in the backward pass."""
        for module in self.modules():
            if isinstance(module, Block):
                module.checkpointed = on

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns in units of images (B, 3, H, W). Raises ValueError where a unit does not divide a side."""
        height, width = images.shape[-2:]
        if height % self.unit or width % self.unit:
            raise ValueError(f"{height} x {width} px images: both sides must be multiples of the unit, {self.unit} px")
        return height // self.unit, width // self.unit

    def stage_size(self, stage: int) -> tuple[int, int]:
        """The grid of `stage` in tokens at the image size the encoder was made for."""
        side = self.patch_size * 2**stage
        return self.image_size[0] // side, self.image_size[1] // side

    def whole(self, images: Tensor) -> Layout:
        """The layout of plain attention over whole images (B, 3, H, W)."""
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
        """(B, n units, tokens a unit, 3 * patch²) -> tokens of the first stage (B, N, widths[0]), before positions."""
        first = self.patch_embedding()
        return first.norm(F.linear(pixels.flatten(1, 2), first.proj.weight.flatten(1), first.proj.bias))

    def encode(self, tokens: Tensor, layout: Layout, mix_embeddings: list[Tensor] | None = None) -> list[Tensor]:
        """The tokens after each stage, in unit order; the last are normed: (B, n units, width).

        mix_embeddings: for each stage (slots, width), added to the tokens of each slot at the start of the stage.
        """
        x, outputs = tokens, []
        for stage, place in enumerate(layout.stages):
            x = self.enter(stage, x, place)
            if mix_embeddings is not None:
                x = x + _by_slot(mix_embeddings[stage], place)
            x = self.run_stage(stage, x, place)
            outputs.append(x)
        outputs[-1] = self.norm(x)
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, units, width): the last stage's tokens, row-major, with plain attention."""
        return self._plain(images)[-1]

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width): the mean over the last stage's tokens."""
        return self(images).mean(1)

    def maps(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> each stage's map (B, widths[stage], rows, columns), the last one normed."""
        layout = self.whole(images)
        return [to_map(x, place) for x, place in zip(self._plain(images), layout.stages, strict=True)]

    def _plain(self, images: Tensor) -> list[Tensor]:
        return self.encode(self.embed(self.pixels(images)), self.whole(images))

    @property
    def last_layer(self) -> int:
        """Layer ids for layer-wise learning rates: 0 the embedding, one a block, this one for final norm and head."""
        return sum(self.depths) + 1

    def block_layer(self, stage: int, block: int) -> int:
        return sum(self.depths[:stage]) + block + 1


def _by_slot(embedding: Tensor, place: StageLayout) -> Tensor:
    """(slots, width) -> (N, width): each token's slot's row."""
    return torch.cat([row.expand(part.stop - part.start, -1) for row, part in zip(embedding, place.slots, strict=True)])


def to_map(x: Tensor, place: StageLayout) -> Tensor:
    """Tokens of a whole image in unit order (B, N, C) -> (B, C, rows, columns)."""
    row_major = torch.empty_like(place.index).scatter_(0, place.index, torch.arange(len(place.index), device=x.device))
    return x[:, row_major].transpose(1, 2).unflatten(2, place.size)


class PatchEmbedding(nn.Module):
    """A strided convolution and a norm; called, it embeds the tokens of an earlier stage (B, N, C) in unit order."""

    def __init__(self, in_width: int, width: int, side: int, norm=nn.LayerNorm):
        super().__init__()
        self.proj = nn.Conv2d(in_width, width, side, side)
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(strided_convolution(self.proj, x))


def reset_parameters(module: nn.Module) -> None:
    """Linear layers: truncated normal, std 0.02, zero bias (Swin, Twins, PVT); all else keeps torch's default."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
