"""Plain vision transformers: MAE's (He et al. 2022) and the BEiT kind that SimMIM trains (Xie et al. 2022)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import calculate_drop_path_rates, trunc_normal_
from timm.models.beit import Block as BeitBlock
from timm.models.beit import RelativePositionBias
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mixmae.attention.positions import fixed_positions, resized_positions
from mixmae.encoders.encoder import Encoder, PatchEmbedding
from mixmae.encoders.vit.spec import VitConfig


class ViT(Encoder):
    """A class token and one stage of global attention; a unit is a patch.

    style "mae": sin-cos positions, fixed until `train_positions` is called, bicubically resized where the grid differs.
    "beit": no absolute positions, one relative position bias shared by all blocks or (`shared_bias` off) one in each,
    for `image_size` only; LayerScale, and no bias for keys.
    """

    hierarchical = False
    stages = 1
    extra_tokens = 1

    def __init__(self, config: VitConfig, image_size: tuple[int, int], drop_path: float = 0.0):
        super().__init__()
        height, width = image_size
        self.image_size, self.patch_size, self.unit = (height, width), config.patch_size, config.unit
        self.width, self.style, self.depth = config.width, config.style, config.depth
        self.shared_bias = config.shared_bias
        self.made_for = height // self.patch_size, width // self.patch_size
        norm = partial(nn.LayerNorm, eps=config.norm_eps)
        rates = calculate_drop_path_rates(drop_path, self.depth)
        self.patch_embed = PatchEmbedding(3, self.width, self.patch_size, norm=nn.Identity)
        self.cls_token = nn.Parameter(trunc_normal_(torch.zeros(1, 1, self.width), std=0.02))
        if self.style == "beit":
            if self.shared_bias:
                self.rel_pos_bias = RelativePositionBias(window_size=self.made_for, num_heads=config.heads)
            own = None if self.shared_bias else self.made_for
            block: Callable[..., nn.Module] = partial(BeitBlock, init_values=0.1, window_size=own)
        else:
            self.pos_embed = fixed_positions(self.width, self.made_for, class_row=True)
            block = Block
        block = partial(block, self.width, config.heads, mlp_ratio=config.mlp_ratio, qkv_bias=True, norm_layer=norm)
        self.blocks = nn.ModuleList(block(drop_path=rate) for rate in rates)
        self.norm = norm(self.width)
        self.checkpointed = False

    def patch_embedding(self) -> PatchEmbedding:
        return self.patch_embed

    def checkpoint_blocks(self, on: bool) -> None:
        self.checkpointed = on

    def train_positions(self) -> None:
        """Trains the sin-cos positions too, as MAE's fine-tuning does."""
        if self.style == "mae":
            self.pos_embed.requires_grad_(True)

    def encode(self, tokens: Tensor, grid: tuple[int, int], index: Tensor | None = None) -> Tensor:
        """Patch tokens (B, n, width) -> normed tokens (B, 1 + n, width), the class token first.

        index: (B, n) row-major places of the patches that are present; None: all of them.
        """
        return self.norm(self._transformed(tokens, grid, index))

    def _transformed(self, tokens: Tensor, grid: tuple[int, int], index: Tensor | None) -> Tensor:
        class_token, bias = self.cls_token, None
        if self.style == "mae":
            class_row, positions = self._positions(grid).split([1, grid[0] * grid[1]], 1)
            class_token = class_token + class_row
            tokens = tokens + (positions if index is None else positions[0, index])
        else:
            bias = self._bias(grid, index)
        x = torch.cat([class_token.expand(len(tokens), -1, -1), tokens], 1)
        for block in self.blocks:
            run: Any = partial(checkpoint, block, use_reentrant=False) if self.checkpointed else block
            x = run(x) if bias is None else run(x, shared_rel_pos_bias=bias)
        return x

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        if grid == self.made_for:
            return self.pos_embed
        patches = resized_positions(self.pos_embed[:, 1:], self.made_for, grid, "bicubic")
        return torch.cat([self.pos_embed[:, :1], patches], 1)

    def _bias(self, grid: tuple[int, int], index: Tensor | None) -> Tensor | None:
        if grid != self.made_for or index is not None:
            raise ValueError(f"style beit encodes all patches of {self.made_for} grids only, not of {grid}")
        return self.rel_pos_bias() if self.shared_bias else None

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, patches, width), row-major."""
        return self.encode(self.embed(self.pixels(images)), self.grid(images))[:, 1:]

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width): the mean over patch tokens, then the norm (as both fine-tune)."""
        tokens = self._transformed(self.embed(self.pixels(images)), self.grid(images), None)
        return self.norm(tokens[:, 1:].mean(1))

    def no_weight_decay(self) -> set[str]:
        own = ("cls_token", "pos_embed")
        tables = ("relative_position_bias_table",)
        return {name for name, _ in self.named_parameters() if name in own or name.endswith(tables)}

    @property
    def last_layer(self) -> int:
        return self.depth + 1

    def leads_to_next_stage(self, name: str) -> bool:
        return False

    def layer_of(self, name: str) -> int:
        parts = name.split(".")
        if parts[0] == "blocks":
            return int(parts[1]) + 1
        return self.last_layer if parts[0] == "norm" else 0
