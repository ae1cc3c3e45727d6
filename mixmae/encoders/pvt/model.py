"""Pyramid Vision Transformer, version 1 (Wang et al. 2021)."""

from functools import partial
from typing import Any

import torch
from timm.layers import calculate_drop_path_rates, trunc_normal_
from torch import Tensor, nn

from mixmae.attention.blocks import Block, ReducedAttention
from mixmae.attention.layouts import Bucket, Groups, StageLayout
from mixmae.attention.positions import resized_positions
from mixmae.encoders.encoder import PatchEmbedding
from mixmae.encoders.hierarchical import HierarchicalEncoder, reset_parameters
from mixmae.encoders.pvt.spec import PvtConfig


class PVT(HierarchicalEncoder):
    """See `HierarchicalEncoder`. Learned positions a stage, bilinearly resized where the grid differs.

    class_token: the supervised official models' token of the last stage; only plain encoding knows it, and `features`
    are then the token itself. Pretraining and fine-tuning here average instead.
    """

    patch_embed1: PatchEmbedding

    def __init__(self, config: PvtConfig, image_size: tuple[int, int], drop_path: float = 0.0):
        super().__init__(config, image_size)
        widths, heads, ratios, reductions = config.widths, config.heads, config.mlp_ratios, config.sr_ratios
        assert isinstance(reductions, tuple), "resolved"
        norm = partial(nn.LayerNorm, eps=config.norm_eps)
        rates: Any = calculate_drop_path_rates(drop_path, list(config.depths), stagewise=True)
        before = (3, *widths)
        for stage in range(self.stages):
            rows, columns = self.stage_size(stage)
            extra = int(config.class_token and stage == self.stages - 1)
            blocks = [
                Block(
                    ReducedAttention(widths[stage], heads[stage], reductions[stage]),
                    widths[stage],
                    ratios[stage],
                    rate,
                    norm,
                )
                for rate in rates[stage]
            ]
            embedding = PatchEmbedding(before[stage], widths[stage], 2 if stage else self.patch_size)
            positions = nn.Parameter(trunc_normal_(torch.zeros(1, rows * columns + extra, widths[stage]), std=0.02))
            self.register_module(f"patch_embed{stage + 1}", embedding)
            self.register_parameter(f"pos_embed{stage + 1}", positions)
            self.register_module(f"block{stage + 1}", nn.ModuleList(blocks))
        if config.class_token:
            self.cls_token = nn.Parameter(trunc_normal_(torch.zeros(1, 1, self.width), std=0.02))
        self.norm = norm(self.width)
        reset_parameters(self)

    def _of_stage(self, kind: str, stage: int) -> Any:
        return getattr(self, f"{kind}{stage + 1}")

    def patch_embedding(self) -> PatchEmbedding:
        return self.patch_embed1

    def enter(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        x = self._of_stage("patch_embed", stage)(x) if stage else x
        rows, columns = self.stage_size(stage)
        positions = self._of_stage("pos_embed", stage)[:, -rows * columns :]
        if place.size != (rows, columns):
            positions = resized_positions(positions, (rows, columns), place.size, "bilinear")
        return x + positions[:, place.index]

    def run_stage(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        groups = place.global_groups()
        with_class = stage == self.stages - 1 and hasattr(self, "cls_token")
        if with_class:
            x = torch.cat([(self.cls_token + self._of_stage("pos_embed", stage)[:, :1]).expand(len(x), -1, -1), x], 1)
            groups = Groups((Bucket(1, x.shape[1]),))
        for block in self._of_stage("block", stage):
            x = block(x, groups)
        return x

    def features(self, images: Tensor) -> Tensor:
        return self(images)[:, 0] if hasattr(self, "cls_token") else super().features(images)

    def no_weight_decay(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if name.startswith(("pos_embed", "cls_token"))}

    def leads_to_next_stage(self, name: str) -> bool:
        return name.startswith(("patch_embed", "pos_embed")) and not name.startswith(("patch_embed1", "pos_embed1"))

    def layer_of(self, name: str) -> int:
        """Embedding and positions of a later stage belong to the block before it, as Swin's patch merging does."""
        parts = name.split(".")
        kind, digit = parts[0].rstrip("0123456789"), parts[0][-1]
        if kind == "block":
            return self.block_layer(int(digit) - 1, int(parts[1]))
        if kind in ("patch_embed", "pos_embed"):
            stage = int(digit) - 1
            return self.block_layer(stage - 1, self.depths[stage - 1] - 1) if stage else 0
        return 0 if kind == "cls_token" else self.last_layer
