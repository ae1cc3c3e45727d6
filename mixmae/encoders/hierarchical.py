"""What the hierarchical encoders share: the walk through the stages, features and maps."""

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mixmae.attention.blocks import Block
from mixmae.attention.layouts import Layout, StageLayout
from mixmae.encoders.encoder import Encoder
from mixmae.encoders.families import Hierarchical


class HierarchicalEncoder(Encoder):
    """Base of Swin, Twins and PVT. A family gives `patch_embedding`, `enter`, `run_stage`, `norm`, `no_weight_decay`,
    `layer_of` and `leads_to_next_stage`.

    Tokens are (B, N, width of the stage) in the unit order of a `Layout`; a layout decides what is present and who
    attends with whom, so plain, masked and visible-only encoding are one code path.
    """

    hierarchical = True
    extra_tokens = 0
    norm: nn.Module

    def __init__(self, config: Hierarchical, image_size: tuple[int, int]):
        super().__init__()
        height, width = image_size
        self.image_size = height, width
        self.patch_size, self.widths, self.depths = config.patch_size, config.widths, config.depths
        self.stages, self.unit, self.width = config.stages, config.unit, config.out_width

    def checkpoint_blocks(self, on: bool) -> None:
        for module in self.modules():
            if isinstance(module, Block):
                module.checkpointed = on

    def stage_size(self, stage: int) -> tuple[int, int]:
        """Returns the grid of `stage` in tokens at the image size the encoder was made for."""
        side = self.patch_size * 2**stage
        return self.image_size[0] // side, self.image_size[1] // side

    def enter(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        """Embeds or merges the tokens of the stage before `stage`, and adds positions."""
        raise NotImplementedError

    def run_stage(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        """Runs the blocks of `stage`; tokens are in unit order before and after."""
        raise NotImplementedError

    def encode(self, tokens: Tensor, layout: Layout, mix_embeddings: list[Tensor] | None = None) -> list[Tensor]:
        """Returns the tokens after each stage, in unit order; the last are normed: (B, n units, width).

        mix_embeddings: for each stage (slots, width), added to the tokens of each slot at the start of the stage.
        """
        x = tokens
        outputs: list[Tensor] = []
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
        return sum(self.depths) + 1

    def block_layer(self, stage: int, block: int) -> int:
        return sum(self.depths[:stage]) + block + 1


def _by_slot(embedding: Tensor, place: StageLayout) -> Tensor:
    """(slots, width) -> (N, width): each token gets the row of its slot."""
    return torch.cat([row.expand(part.stop - part.start, -1) for row, part in zip(embedding, place.slots, strict=True)])


def to_map(x: Tensor, place: StageLayout) -> Tensor:
    """Turns tokens of a whole image in unit order (B, N, C) into a map (B, C, rows, columns)."""
    row_major = torch.empty_like(place.index).scatter_(0, place.index, torch.arange(len(place.index), device=x.device))
    return x[:, row_major].transpose(1, 2).unflatten(2, place.size)


def reset_parameters(module: nn.Module) -> None:
    """Initialises linear layers as Swin, Twins and PVT do: truncated normal, std 0.02, zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
