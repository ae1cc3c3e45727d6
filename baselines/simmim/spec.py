"""SimMIM (Xie et al., CVPR 2022): mask tokens in the encoder (no torch)."""

from collections.abc import Mapping
from math import ceil
from typing import Any, Literal

from mixmae.encoders.families import EncoderModel
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.model import Positive, Ratio
from mixmae.methods.methods import HiddenAs, MethodModel, MethodSpec


class SimmimConfig(MethodModel):
    """SimMIM (Xie et al., CVPR 2022)."""

    name: Literal["simmim"] = "simmim"
    ratio: Ratio = 0.6
    """Share of the mask's cells that are hidden."""
    mask_unit: Positive | None = None
    """Side in pixels of what is masked as one, from one patch to 64 px; default: the unit (32 px for four stages at
    patch 4), and two patches for ViT (32 px at patch 16)."""


class SimmimSpec(MethodSpec):
    name, label, order, colour = "simmim", "SimMIM", 2, 1
    loss_label = "L1"
    config = SimmimConfig
    model = "baselines.simmim.model:SimMIM"

    def mask_unit(self, config: SimmimConfig, encoder: EncoderModel) -> int:
        return config.mask_unit or encoder.mask_unit

    def hidden(self, config: SimmimConfig, cells: int) -> int:
        return ceil(cells * config.ratio)

    def resolved(self, config: SimmimConfig, encoder: EncoderModel) -> SimmimConfig:
        return config.model_copy(update={"mask_unit": self.mask_unit(config, encoder)})

    def head(self, config: SimmimConfig, encoder: EncoderModel, units: int) -> tuple[int, int]:
        width, outputs = encoder.out_width, encoder.unit**2 * 3
        return units * width * outputs, width * outputs + outputs

    def published(self) -> Mapping[str, Any]:
        return {"ratio": 0.6, "mask_unit": 32}

    def hidden_as(self, config: SimmimConfig) -> HiddenAs:
        return HiddenAs("masked input", False, "grey: mask tokens in place of hidden units")

    def official(self) -> tuple[OfficialKind, ...]:
        from baselines.simmim.official import KINDS

        return KINDS


SPEC = SimmimSpec()
