"""Pyramid Vision Transformer, version 1 (Wang et al. 2021, table 1): global attention over reduced keys (no torch)."""

from typing import Annotated, Any, Literal

from mixmae.encoders.counting import Sources, embedded, reduced_block, tokens_of
from mixmae.encoders.exports import INSTEAD, Backbone, NotInTimm, TimmModel
from mixmae.encoders.families import EncoderSpec
from mixmae.encoders.kinds import OfficialKind
from mixmae.encoders.reduction import Reducing
from mixmae.fields.identity import Neutral
from mixmae.fields.model import NotNegative


class PvtConfig(Reducing):
    """Every block attends to spatially reduced keys of the whole image."""

    family: Literal["pvt"] = "pvt"
    norm_eps: NotNegative = 1e-6
    """Epsilon of the layer norms."""
    class_token: Annotated[bool, Neutral(False)] = False
    """The last stage's class token of the published supervised models; for classifying only."""


_DEPTHS = {"tiny": (2, 2, 2, 2), "small": (3, 4, 6, 3), "medium": (3, 4, 18, 3), "large": (3, 8, 27, 3)}
_SHAPE: dict[str, Any] = dict(widths=(64, 128, 320, 512), heads=(1, 2, 5, 8), mlp_ratios=(8, 8, 4, 4))


class PvtSpec(EncoderSpec):
    name, label, order = "pvt", "PVT", 3
    config = PvtConfig
    model = "mixmae.encoders.pvt.model:PVT"
    variants = {
        **{f"pvt_{size}": dict(depths=depths, **_SHAPE) for size, depths in _DEPTHS.items()},
        "pvt_nano": dict(patch_size=2, widths=(32, 64, 128), depths=(1, 1, 3), heads=(1, 2, 4), mlp_ratios=(4, 4, 4)),
    }
    small = "pvt_nano"
    hierarchical = visible_only = True

    def resolved(self, config: PvtConfig, image_size: tuple[int, int]) -> PvtConfig:
        return config.with_ratios()

    def multiply_adds(self, config: PvtConfig, image_size: tuple[int, int], sources: Sources) -> int | None:
        """None with a class token, which no pretraining has."""
        if config.class_token:
            return None
        assert isinstance(config.sr_ratios, tuple), "resolved"
        total = 0
        for stage, (width, ratio) in enumerate(zip(config.widths, config.mlp_ratios, strict=True)):
            counts = [len(part) for part in tokens_of(config, image_size, stage, sources)]
            blocks = config.depths[stage] * reduced_block(counts, width, ratio, config.sr_ratios[stage])
            total += embedded(config, sum(counts), stage) + blocks
        return total

    def official(self) -> tuple[OfficialKind, ...]:
        from mixmae.encoders.pvt.official import KINDS

        return KINDS

    def timm(self, config: PvtConfig, image_size: tuple[int, int]) -> TimmModel:
        raise NotInTimm(f"timm has PVT of version 2 only, this is version 1; {INSTEAD}")

    def openmmlab(self, config: PvtConfig, image_size: tuple[int, int], state: dict[str, Any]) -> Backbone:
        from mixmae.encoders.pvt.official import openmmlab_backbone

        return openmmlab_backbone(config, image_size, state)


SPEC = PvtSpec()
