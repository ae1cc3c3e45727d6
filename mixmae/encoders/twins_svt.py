"""Twins-SVT (Chu et al. 2021): local windows in even blocks, global attention over reduced keys in odd ones."""

import math
from functools import partial

import torch
from timm.layers import DropPath, Mlp, calculate_drop_path_rates
from torch import Tensor, nn

from mixmae.attention import ReducedAttention, WindowAttention
from mixmae.encoders.hierarchical import HierarchicalEncoder, reduce_tokens, reset_parameters
from mixmae.encoders.swin import reorder
from mixmae.layouts import StageLayout


class TwinsBlock(nn.Module):
    def __init__(self, width: int, heads: int, sr_ratio: int | None, mlp_ratio: int, drop_path: float, norm):
        """sr_ratio: None makes a local block, a number a global one."""
        super().__init__()
        self.norm1 = norm(width)
        local = sr_ratio is None
        self.attn = WindowAttention(width, heads, None) if local else ReducedAttention(width, heads, sr_ratio)
        self.norm2 = norm(width)
        self.mlp = Mlp(width, width * mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, groups) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), groups))
        return x + self.drop_path(self.mlp(self.norm2(x)))


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


class StageEmbedding(nn.Module):
    def __init__(self, in_width: int, width: int, side: int):
        super().__init__()
        self.proj = nn.Conv2d(in_width, width, side, side)
        self.norm = nn.LayerNorm(width)


class TwinsSVT(HierarchicalEncoder):
    """See `HierarchicalEncoder`. windows: sides of the local windows; sr_ratios: tokens a side of one reduced key."""

    def __init__(
        self,
        image_size: tuple[int, int],
        patch_size: int,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        windows: tuple[int, ...],
        sr_ratios: tuple[int, ...],
        mlp_ratios: tuple[int, ...],
        norm_eps: float,
        drop_path: float,
    ):
        super().__init__(image_size, patch_size, widths, depths)
        norm = partial(nn.LayerNorm, eps=norm_eps)
        rates = calculate_drop_path_rates(drop_path, list(depths), stagewise=True)
        self.windows = tuple(windows)
        before = (3, *widths)
        self.patch_embeds = nn.ModuleList(
            StageEmbedding(before[stage], widths[stage], 2 if stage else patch_size) for stage in range(self.stages)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                TwinsBlock(widths[s], heads[s], sr_ratios[s] if number % 2 else None, mlp_ratios[s], rate, norm)
                for number, rate in enumerate(rates[s])
            )
            for s in range(self.stages)
        )
        self.pos_block = nn.ModuleList(ConvolutionalPositions(width) for width in widths)
        self.norm = norm(self.width)
        reset_parameters(self)
        for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
            nn.init.zeros_(conv.bias)

    def patch_embedding(self) -> tuple[nn.Conv2d, nn.Module]:
        return self.patch_embeds[0].proj, self.patch_embeds[0].norm

    def enter(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        embedding = self.patch_embeds[stage]
        return reduce_tokens(embedding.proj, embedding.norm, x) if stage else x

    def run_stage(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        current = None
        for number, block in enumerate(self.blocks[stage]):
            local = number % 2 == 0
            groups = place.window_groups(self.windows[stage], 0, None) if local else place.global_groups()
            x = block(reorder(x, current, groups), groups)
            current = groups
            if number == 0:
                x, current = self.pos_block[stage](reorder(x, current, None), place), None
        return reorder(x, current, None)

    def finish(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def no_weight_decay(self) -> set[str]:
        return set()

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
