"""MixMAE: mixed and masked autoencoding (Liu et al., CVPR 2023) (no torch)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from mixmae.encoders.families import EncoderModel
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.identity import Neutral
from mixmae.fields.model import NotNegative, Positive, Ratio, WorkedOut, impossible
from mixmae.methods.methods import HiddenAs, MethodModel, MethodSpec, check_decoder, decoder_head


class MixmaeConfig(MethodModel):
    """MixMAE (Liu et al., CVPR 2023). The defaults reproduce the released code; the paper adds `mix_embedding`."""

    name: Literal["mixmae"] = "mixmae"
    images: Annotated[int, Field(ge=2, le=4)] = 2
    """Images mixed into one."""
    ratio: Annotated[Ratio, WorkedOut]
    """Share of units that do not show the mixed image's own image; default (images - 1) / images."""
    fill: Literal["image", "zero", "token", "noise"] = "image"
    """What fills the hidden units: other images, or zeros, one learnable token, or noise N(0, 1)."""
    dual: bool = True
    """Reconstruct every image of the mix, not only the mixed image's own."""
    masked_attention: bool = True
    """Tokens attend only to tokens of the same source image."""
    mix_embedding: bool = False
    """One learnable vector a slot and stage, added at the start of each stage."""
    normalised_target: bool = True
    """Predict each unit's pixels less their mean and over their deviation."""
    decoder_depth: Positive = 8
    """Blocks."""
    decoder_width: Positive = 512
    """Channels of the decoder."""
    decoder_heads: Positive = 16
    """Attention heads of the decoder's blocks."""
    decoder_mlp_ratio: Annotated[Positive, Neutral(4)] = 4
    """Width of the hidden layer of the decoder's MLPs, over its own."""
    decoder_norm_eps: Annotated[NotNegative, Neutral(1e-5)] = 1e-5
    """Epsilon of the decoder's layer norms."""

    @model_validator(mode="before")
    @classmethod
    def _ratio_follows_images(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("ratio") is None:
            images = raw.get("images", 2)
            if isinstance(images, int) and images >= 2:
                raw = {**raw, "ratio": (images - 1) / images}
            filled = raw.get("fill", "image") != "image"
            if filled:
                raw = {"dual": False, "masked_attention": False, **raw}
        return raw

    @model_validator(mode="after")
    def _fills_stand_alone(self) -> Self:
        if self.fill != "image":
            for field, wanted in (
                ("dual", False),
                ("masked_attention", False),
                ("mix_embedding", False),
                ("images", 2),
            ):
                if getattr(self, field) != wanted:
                    what = f"means nothing with fill: {self.fill}, which mixes no images; write {str(wanted).lower()}"
                    raise impossible((field,), what)
        check_decoder(self)
        return self


class MixmaeSpec(MethodSpec):
    name, label, order, colour = "mixmae", "MixMAE", 1, 0
    loss_label = "squared error"
    config = MixmaeConfig
    model = "mixmae.methods.mixmae.model:MixMAE"
    needs_hierarchical = True

    def hidden(self, config: MixmaeConfig, cells: int) -> int:
        return int(cells * config.ratio)

    def least_hidden(self, config: MixmaeConfig) -> int:
        return config.images - 1

    def sources(self, config: MixmaeConfig, units: int, rng: np.random.Generator) -> list[np.ndarray]:
        """The units of each slot; all of them where slots attend to one another."""
        if not config.masked_attention:
            return [np.arange(units)]
        drawn, own = rng.permutation(units), units - self.hidden(config, units)
        return [drawn[:own], *np.array_split(drawn[own:], config.images - 1)]

    def images_together(self, config: MixmaeConfig) -> int:
        return config.images if config.fill == "image" else 1

    def head(self, config: MixmaeConfig, encoder: EncoderModel, units: int) -> tuple[int, int]:
        return decoder_head(config, encoder, units, units, config.images if config.dual else 1)

    def published(self) -> Mapping[str, Any]:
        """Leaves `mix_embedding` open: the paper has it, the released code has not."""
        config = MixmaeConfig.model_validate({})
        return config.model_dump(exclude={"name", "mix_embedding"})

    def hidden_as(self, config: MixmaeConfig) -> HiddenAs:
        what = {"zero": "zeros", "token": "mask tokens", "noise": "noise"}[config.fill]
        title = "masked input" if config.fill == "token" else f"masked by {what}"
        return HiddenAs(title, False, f"grey: {what} in place of hidden units")

    def normalises(self, config: MixmaeConfig) -> bool:
        return config.normalised_target

    def official(self) -> tuple[OfficialKind, ...]:
        from mixmae.methods.mixmae.official import KINDS

        return KINDS


SPEC = MixmaeSpec()
