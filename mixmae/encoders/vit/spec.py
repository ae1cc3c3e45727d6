"""Plain vision transformers (Dosovitskiy et al. 2021, table 1), as MAE and SimMIM train them (no torch)."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from mixmae.encoders.counting import Sources, attention, block
from mixmae.encoders.exports import TimmModel
from mixmae.encoders.families import EncoderModel, EncoderSpec
from mixmae.fields.identity import Neutral
from mixmae.fields.model import NotNegative, Positive, impossible


class VitConfig(EncoderModel):
    """A class token and one stage of global attention; a unit is a patch."""

    family: Literal["vit"] = "vit"
    patch_size: Positive = 16
    """Side in pixels of a token."""
    width: Positive
    """Channels of a token."""
    depth: Positive
    """Blocks."""
    heads: Positive
    """Attention heads."""
    mlp_ratio: Positive = 4
    """Width of the hidden layer of each block's MLP, over the block's."""
    style: Literal["mae", "beit"] = "mae"
    """"mae": sin-cos positions. "beit": one relative position bias for all blocks and LayerScale, as in SimMIM."""
    norm_eps: NotNegative = 1e-6
    """Epsilon of the layer norms."""
    shared_bias: Annotated[bool, Neutral(True)] = True
    """Style beit: one relative position bias for all blocks, as in pretraining; off: one a block, as in SimMIM's
    fine-tuning, which starts each from the shared one."""

    extra_tokens: ClassVar[int] = 1

    @property
    def unit(self) -> int:
        return self.patch_size

    @property
    def mask_unit(self) -> int:
        return 2 * self.patch_size

    @property
    def out_width(self) -> int:
        return self.width

    @property
    def shape(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("family", "patch_size", "width", "depth", "heads", "mlp_ratio")}

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise impossible(("heads",), f"width {self.width} is not divisible by {self.heads} heads; write a divisor")
        return self


class VitSpec(EncoderSpec):
    name, label, order = "vit", "ViT", 4
    config = VitConfig
    model = "mixmae.encoders.vit.model:ViT"
    variants = {
        "vit_small_p16": dict(width=384, depth=12, heads=6),
        "vit_base_p16": dict(width=768, depth=12, heads=12),
        "vit_large_p16": dict(width=1024, depth=24, heads=16),
        "vit_nano": dict(patch_size=8, width=128, depth=4, heads=4),
    }
    small = "vit_nano"
    visible_only = True

    def multiply_adds(self, config: VitConfig, image_size: tuple[int, int], sources: Sources) -> int:
        patches = sum(map(len, sources))
        tokens, width = patches + config.extra_tokens, config.width
        blocks = config.depth * (block(tokens, width, config.mlp_ratio) + attention(tokens**2, width))
        return patches * 3 * config.patch_size**2 * width + blocks

    def finetuned(self, config: VitConfig) -> VitConfig:
        return config.model_copy(update={"shared_bias": False}) if config.style == "beit" else config

    def timm(self, config: VitConfig, image_size: tuple[int, int]) -> TimmModel:
        from mixmae.encoders.vit.official import timm_model

        return timm_model(config, image_size)


SPEC = VitSpec()
