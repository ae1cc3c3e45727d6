"""Swin: stock with shifted windows, and the kind MixMAE released, without (no torch).

Sources: Liu et al. 2021, table 7; MixMAE's Swin-B/L/H (official widths, heads and windows). `swin_nano` is ours: three
stages at patch 2, so that a 32 px image has 4 x 4 units of 8 px.
"""

from typing import Any, Literal

from mixmae.encoders.counting import Sources, attention, block, embedded, stage_size, tokens_of, window_pairs
from mixmae.encoders.exports import Backbone, TimmModel
from mixmae.encoders.families import EncoderSpec, Hierarchical, one_a_stage
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.model import Ints, NotNegative


class SwinConfig(Hierarchical):
    """Windows of tokens attend together, with a relative position bias in every block."""

    family: Literal["swin"] = "swin"
    windows: Literal["grid"] | Ints = "grid"
    """Window sides in tokens. "grid": the whole grid in the last two stages, a half and a quarter before (the
    released MixMAE windows, [14, 14, 14, 7] at 224)."""
    shift: bool = False
    """Shift every second block's windows by half a window (stock Swin)."""
    positions: Literal["sincos", "none"] = "sincos"
    """Absolute position embedding, beside the relative position bias every block has."""
    norm_eps: NotNegative = 1e-5
    """Epsilon of the layer norms."""

    @property
    def by_stage(self) -> dict[str, tuple[int, ...]]:
        return super().by_stage | ({"windows": self.windows} if isinstance(self.windows, tuple) else {})

    @property
    def attends(self) -> dict[str, Any]:
        return {"windows": self.windows, "shift": self.shift}


_SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(widths=(96, 192, 384, 768), depths=(2, 2, 6, 2), heads=(3, 6, 12, 24)),
    "small": dict(widths=(96, 192, 384, 768), depths=(2, 2, 18, 2), heads=(3, 6, 12, 24)),
    "base": dict(widths=(128, 256, 512, 1024), depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
    "large": dict(widths=(192, 384, 768, 1536), depths=(2, 2, 18, 2), heads=(6, 12, 24, 48)),
    "huge": dict(widths=(352, 704, 1408, 2816), depths=(2, 2, 18, 2), heads=(11, 22, 44, 88)),
}
_STOCK: dict[str, Any] = dict(windows=(7, 7, 7, 7), shift=True, positions="none")


class SwinSpec(EncoderSpec):
    name, label, order = "swin", "Swin", 1
    config = SwinConfig
    model = "mixmae.encoders.swin.model:Swin"
    variants = {
        **{f"swin_{size}_w14": shape for size, shape in _SIZES.items()},
        **{f"swin_{size}_w7": {**_STOCK, **shape} for size, shape in _SIZES.items() if size != "huge"},
        "swin_nano": dict(patch_size=2, widths=(32, 64, 128), depths=(1, 1, 3), heads=(1, 2, 4)),
    }
    small = "swin_nano"
    hierarchical = visible_only = True

    def resolved(self, config: SwinConfig, image_size: tuple[int, int]) -> SwinConfig:
        if config.windows != "grid":
            return config
        windows = grid_windows(min(image_size) // config.patch_size, config.stages)
        return config.model_copy(update={"windows": windows})

    def multiply_adds(self, config: SwinConfig, image_size: tuple[int, int], sources: Sources) -> int:
        assert isinstance(config.windows, tuple), "resolved"
        total = 0
        for stage, (width, ratio) in enumerate(zip(config.widths, config.mlp_ratios, strict=True)):
            tokens, size = tokens_of(config, image_size, stage, sources), stage_size(config, image_size, stage)
            present, window = sum(map(len, tokens)), min(config.windows[stage], *size)
            total += embedded(config, present, stage)
            for number in range(config.depths[stage]):
                shifted = config.shift and number % 2 == 1 and min(size) > window
                pairs = window_pairs(tokens, size, window, window // 2 if shifted else 0)
                total += block(present, width, ratio) + attention(pairs, width)
        return total

    def with_windows(self, config: SwinConfig, windows: tuple[int, ...]) -> SwinConfig:
        return config.model_copy(update={"windows": one_a_stage(windows, config.stages)})

    def other_sizes(self, variant: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Returns the sizes of MixMAE's Swin-B/L/W16."""
        return ((384, (16, 16, 24, 12)),) if variant in ("swin_base_w14", "swin_large_w14") else ()

    def official(self) -> tuple[OfficialKind, ...]:
        from mixmae.encoders.swin.official import KINDS

        return KINDS

    def timm(self, config: SwinConfig, image_size: tuple[int, int]) -> TimmModel:
        from mixmae.encoders.swin.official import timm_model

        return timm_model(config, image_size)

    def openmmlab(self, config: SwinConfig, image_size: tuple[int, int], state: dict[str, Any]) -> Backbone:
        from mixmae.encoders.swin.official import openmmlab_backbone

        return openmmlab_backbone(config, image_size, state)


def grid_windows(side: int, stages: int) -> tuple[int, ...]:
    """Returns windows over the whole grid in the last two stages, a half and a quarter before: 14, 14, 14, 7 for 56."""
    grids = [side // 2**stage for stage in range(stages)]
    return tuple(-(-grid // max(1, 2 ** (stages - 2 - stage))) for stage, grid in enumerate(grids))


SPEC = SwinSpec()
