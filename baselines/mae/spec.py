"""MAE (He et al., CVPR 2022); on hierarchical encoders as GreenMIM (Huang et al. 2022) (no torch)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import model_validator

from mixmae.encoders.families import EncoderModel
from mixmae.encoders.kinds import OfficialKind
from mixmae.fields.identity import Neutral
from mixmae.fields.model import NotNegative, Positive, Ratio
from mixmae.methods.methods import HiddenAs, MethodModel, MethodSpec, check_decoder, decoder_head


class MaeConfig(MethodModel):
    """MAE (He et al., CVPR 2022); on hierarchical encoders as GreenMIM (Huang et al. 2022)."""

    name: Literal["mae"] = "mae"
    ratio: Ratio = 0.75
    """Share of units that are hidden."""
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
    decoder_norm_eps: Annotated[NotNegative, Neutral(1e-6)] = 1e-6
    """Epsilon of the decoder's layer norms."""

    @model_validator(mode="after")
    def _decoder_fits(self) -> Self:
        check_decoder(self)
        return self


class MaeSpec(MethodSpec):
    name, label, order, colour = "mae", "MAE", 3, 2
    loss_label = "squared error"
    config = MaeConfig
    model = "baselines.mae.model:MAE"
    needs_visible_only = True

    def hidden(self, config: MaeConfig, cells: int) -> int:
        """Returns all cells but the kept ones, whose number is rounded down."""
        return cells - int(cells * (1 - config.ratio))

    def encoded(self, config: MaeConfig, units: int) -> int:
        return units - self.hidden(config, units)

    def head(self, config: MaeConfig, encoder: EncoderModel, units: int) -> tuple[int, int]:
        return decoder_head(config, encoder, units, self.encoded(config, units), 1)

    def published(self) -> Mapping[str, Any]:
        return MaeConfig().model_dump(exclude={"name"})

    def hidden_as(self, config: MaeConfig) -> HiddenAs:
        return HiddenAs("visible only", True, "white: hidden units, which are left out")

    def normalises(self, config: MaeConfig) -> bool:
        return config.normalised_target

    def official(self) -> tuple[OfficialKind, ...]:
        from baselines.mae.official import KINDS

        return KINDS


SPEC = MaeSpec()
