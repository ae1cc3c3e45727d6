"""Twins-SVT (Chu et al. 2021, table 2): local windows and global attention over reduced keys by turns (no torch)."""

from typing import Any, Literal

from mixmae.encoders.counting import (
    Sources,
    attention,
    block,
    embedded,
    reduced_block,
    stage_size,
    tokens_of,
    window_pairs,
)
from mixmae.encoders.exports import Backbone, TimmModel
from mixmae.encoders.families import EncoderSpec, one_a_stage
from mixmae.encoders.kinds import OfficialKind
from mixmae.encoders.reduction import Reducing
from mixmae.fields.model import Ints, NotNegative


class TwinsConfig(Reducing):
    """Even blocks attend within windows, odd ones to spatially reduced keys of the whole image."""

    family: Literal["twins_svt"] = "twins_svt"
    windows: Ints = (7, 7, 7, 7)
    """Sides in tokens of the windows of the even (local) blocks."""
    norm_eps: NotNegative = 1e-6
    """Epsilon of the layer norms."""

    @property
    def by_stage(self) -> dict[str, tuple[int, ...]]:
        return super().by_stage | {"windows": self.windows}

    @property
    def attends(self) -> dict[str, Any]:
        return super().attends | {"windows": self.windows}


class TwinsSpec(EncoderSpec):
    name, label, order = "twins_svt", "Twins-SVT", 2
    config = TwinsConfig
    model = "mixmae.encoders.twins_svt.model:TwinsSVT"
    variants = {
        "twins_svt_small": dict(widths=(64, 128, 256, 512), depths=(2, 2, 10, 4), heads=(2, 4, 8, 16)),
        "twins_svt_base": dict(widths=(96, 192, 384, 768), depths=(2, 2, 18, 2), heads=(3, 6, 12, 24)),
        "twins_svt_large": dict(widths=(128, 256, 512, 1024), depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
        "twins_svt_nano": dict(
            patch_size=2, widths=(32, 64, 128), depths=(2, 2, 2), heads=(1, 2, 4), windows=(4, 4, 4)
        ),
    }
    small = "twins_svt_nano"
    hierarchical = visible_only = True

    def resolved(self, config: TwinsConfig, image_size: tuple[int, int]) -> TwinsConfig:
        return config.with_ratios()

    def multiply_adds(self, config: TwinsConfig, image_size: tuple[int, int], sources: Sources) -> int:
        """The depthwise position convolution runs on a whole grid for each source."""
        assert isinstance(config.sr_ratios, tuple), "resolved"
        total = 0
        for stage, (width, ratio) in enumerate(zip(config.widths, config.mlp_ratios, strict=True)):
            tokens, size = tokens_of(config, image_size, stage, sources), stage_size(config, image_size, stage)
            counts = [len(part) for part in tokens]
            total += embedded(config, sum(counts), stage) + len(sources) * size[0] * size[1] * 9 * width
            local = attention(window_pairs(tokens, size, config.windows[stage]), width)
            for number in range(config.depths[stage]):
                if number % 2:
                    total += reduced_block(counts, width, ratio, config.sr_ratios[stage])
                else:
                    total += block(sum(counts), width, ratio) + local
        return total

    def with_windows(self, config: TwinsConfig, windows: tuple[int, ...]) -> TwinsConfig:
        return config.model_copy(update={"windows": one_a_stage(windows, config.stages)})

    def official(self) -> tuple[OfficialKind, ...]:
        from mixmae.encoders.twins_svt.official import KINDS

        return KINDS

    def timm(self, config: TwinsConfig, image_size: tuple[int, int]) -> TimmModel:
        from mixmae.encoders.twins_svt.official import timm_model

        return timm_model(config, image_size)

    def openmmlab(self, config: TwinsConfig, image_size: tuple[int, int], state: dict[str, Any]) -> Backbone:
        from mixmae.encoders.twins_svt.official import openmmlab_backbone

        return openmmlab_backbone(config, image_size, state)


SPEC = TwinsSpec()
