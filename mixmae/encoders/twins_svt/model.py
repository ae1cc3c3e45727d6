"""Twins-SVT (Chu et al. 2021): local windows in even blocks, global attention over reduced keys in odd ones."""

import math
from functools import partial
from typing import Any

import torch
from timm.layers import calculate_drop_path_rates
from torch import Tensor, nn

from mixmae.attention.blocks import Block, ReducedAttention, WindowAttention, reorder
from mixmae.attention.layouts import StageLayout
from mixmae.encoders.encoder import PatchEmbedding
from mixmae.encoders.hierarchical import HierarchicalEncoder, reset_parameters
from mixmae.encoders.twins_svt.spec import TwinsConfig


class ConvolutionalPositions(nn.Module):
    """PEG: x + depthwise 3 x 3 convolution. Each source is convolved alone, with zeros where it shows no token."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, groups=width))

    def forward(self, x: Tensor, place: StageLayout) -> Tensor:
        rows, columns = place.size
        out = []
        for source in place.sources:
            index = place.index[source]
            grid = x.new_zeros(len(x), rows * columns, x.shape[2]).index_copy(1, index, x[:, source])
            grid = self.proj(grid.transpose(1, 2).unflatten(2, place.size))
            out.append(grid.flatten(2).transpose(1, 2)[:, index])
        return x + (out[0] if len(out) == 1 else torch.cat(out, 1))


class TwinsSVT(HierarchicalEncoder):
    """See `HierarchicalEncoder`. windows: sides of the local windows; sr_ratios: tokens a side of one reduced key."""

    def __init__(self, config: TwinsConfig, image_size: tuple[int, int], drop_path: float = 0.0):
        super().__init__(config, image_size)
        widths, heads, ratios, reductions = config.widths, config.heads, config.mlp_ratios, config.sr_ratios
        assert isinstance(reductions, tuple), "resolved"
        norm = partial(nn.LayerNorm, eps=config.norm_eps)
        rates: Any = calculate_drop_path_rates(drop_path, list(config.depths), stagewise=True)
        self.windows = config.windows
        before = (3, *widths)
        self.patch_embeds = nn.ModuleList(
            PatchEmbedding(before[stage], widths[stage], 2 if stage else self.patch_size)
            for stage in range(self.stages)
        )

        def attention(stage: int, number: int) -> nn.Module:
            if number % 2:
                return ReducedAttention(widths[stage], heads[stage], reductions[stage])
            return WindowAttention(widths[stage], heads[stage], None)

        self.blocks = nn.ModuleList(
            nn.ModuleList(
                Block(attention(s, number), widths[s], ratios[s], rate, norm) for number, rate in enumerate(rates[s])
            )
            for s in range(self.stages)
        )
        self.pos_block = nn.ModuleList(ConvolutionalPositions(width) for width in widths)
        self.norm = norm(self.width)
        reset_parameters(self)
        for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def patch_embedding(self) -> PatchEmbedding:
        first: Any = self.patch_embeds[0]
        return first

    def enter(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        return self.patch_embeds[stage](x) if stage else x

    def run_stage(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        current = None
        blocks: Any = self.blocks[stage]
        for number, block in enumerate(blocks):
            local = number % 2 == 0
            groups = place.window_groups(self.windows[stage], 0, None) if local else place.global_groups()
            x = block(reorder(x, current, groups), groups)
            current = groups
            if number == 0:
                x, current = self.pos_block[stage](reorder(x, current, None), place), None
        return reorder(x, current, None)

    def no_weight_decay(self) -> set[str]:
        return set()

    def leads_to_next_stage(self, name: str) -> bool:
        return name.startswith("patch_embeds.") and not name.startswith("patch_embeds.0.")

    def layer_of(self, name: str) -> int:
        """The embedding of a later stage belongs to the block before it, as Swin's patch merging does."""
        parts = name.split(".")
        if parts[0] == "blocks":
            return self.block_layer(int(parts[1]), int(parts[2]))
        if parts[0] == "pos_block":
            return self.block_layer(int(parts[1]), 0)
        if parts[0] == "patch_embeds":
            stage = int(parts[1])
            return self.block_layer(stage - 1, self.depths[stage - 1] - 1) if stage else 0
        return self.last_layer
