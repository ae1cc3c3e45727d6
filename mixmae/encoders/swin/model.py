"""Swin transformers: stock with shifted windows (Liu et al. 2021), and the kind MixMAE released, without shifts."""

from functools import partial
from typing import Any

from timm.layers import calculate_drop_path_rates
from torch import Tensor, nn

from mixmae.attention.blocks import Block, WindowAttention, reorder
from mixmae.attention.layouts import StageLayout
from mixmae.attention.positions import fixed_positions, resized_positions
from mixmae.encoders.encoder import PatchEmbedding
from mixmae.encoders.hierarchical import HierarchicalEncoder, reset_parameters
from mixmae.encoders.swin.spec import SwinConfig


class PatchMerging(nn.Module):
    """2 x 2 tokens become one: concatenated in the order (0,0), (1,0), (0,1), (1,1), normed, projected without bias."""

    def __init__(self, width: int, out_width: int, norm):
        super().__init__()
        self.norm = norm(4 * width)
        self.reduction = nn.Linear(4 * width, out_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(x.reshape(x.shape[0], x.shape[1] // 4, -1)))


class SwinStage(nn.Module):
    def __init__(self, blocks: list[Block], downsample: PatchMerging | None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if downsample is not None:
            self.downsample = downsample


class Swin(HierarchicalEncoder):
    """See `HierarchicalEncoder`. A window larger than the grid at `image_size` is cut to it and its shift dropped, and
    the bias table takes the cut size, as in the official code. positions: "sincos" (a fixed table, bicubically resized
    where the grid differs) or "none"."""

    def __init__(self, config: SwinConfig, image_size: tuple[int, int], drop_path: float = 0.0):
        super().__init__(config, image_size)
        widths, heads, ratios = config.widths, config.heads, config.mlp_ratios
        assert isinstance(config.windows, tuple), "resolved"
        norm = partial(nn.LayerNorm, eps=config.norm_eps)
        rates: Any = calculate_drop_path_rates(drop_path, list(config.depths), stagewise=True)
        self.shift, self.positions = config.shift, config.positions
        self.patch_embed = PatchEmbedding(3, widths[0], config.patch_size, norm)
        if self.positions == "sincos":
            self.absolute_pos_embed = fixed_positions(widths[0], self.stage_size(0))
        self.layers = nn.ModuleList()
        for stage in range(self.stages):
            window = min(config.windows[stage], *self.stage_size(stage))
            blocks = [
                Block(WindowAttention(widths[stage], heads[stage], window), widths[stage], ratios[stage], rate, norm)
                for rate in rates[stage]
            ]
            last = stage == self.stages - 1
            merging = None if last else PatchMerging(widths[stage], widths[stage + 1], norm)
            self.layers.append(SwinStage(blocks, merging))
        self.norm = norm(self.width)
        reset_parameters(self)

    def patch_embedding(self) -> PatchEmbedding:
        return self.patch_embed

    def enter(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        if stage > 0:
            before: Any = self.layers[stage - 1]
            return before.downsample(x)
        if self.positions == "sincos":
            x = x + self._positions(place.size)[:, place.index]
        return x

    def _positions(self, size: tuple[int, int]) -> Tensor:
        made_for = self.stage_size(0)
        if size == made_for:
            return self.absolute_pos_embed
        return resized_positions(self.absolute_pos_embed, made_for, size, "bicubic")

    def run_stage(self, stage: int, x: Tensor, place: StageLayout) -> Tensor:
        """Runs the blocks; tokens are reordered only where the groups change from one block to the next."""
        current = None
        layer: Any = self.layers[stage]
        for number, block in enumerate(layer.blocks):
            window = block.attn.table_side
            shifted = self.shift and number % 2 == 1 and min(place.size) > window
            groups = place.window_groups(window, window // 2 if shifted else 0, window)
            x = reorder(x, current, groups)
            x = block(x, groups)
            current = groups
        return reorder(x, current, None)

    def no_weight_decay(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")}

    def leads_to_next_stage(self, name: str) -> bool:
        return ".downsample." in name

    def layer_of(self, name: str) -> int:
        """A patch merging belongs to the block before it (official fine-tuning code)."""
        parts = name.split(".")
        if parts[0] == "layers":
            stage = int(parts[1])
            return self.block_layer(stage, int(parts[3]) if parts[2] == "blocks" else self.depths[stage] - 1)
        return 0 if parts[0] in ("patch_embed", "absolute_pos_embed") else self.last_layer
