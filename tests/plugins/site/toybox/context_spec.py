"""Context encoding: hidden units are black in the image, and their pixels are predicted (no torch)."""

from typing import Literal

from mixmae.encoders.families import EncoderModel
from mixmae.fields.model import Ratio
from mixmae.methods.methods import MethodModel, MethodSpec


class ContextConfig(MethodModel):
    """Predicts hidden units from an image in which they are black (after Pathak et al. 2016)."""

    name: Literal["context"] = "context"
    share: Ratio = 0.5
    """Share of the units that are hidden."""


class Context(MethodSpec):
    name, label = "context", "Context"
    config = ContextConfig
    model = "toybox.context:Context"
    loss_label = "squared error"
    hidden_by = "share"

    def hidden(self, config: ContextConfig, cells: int) -> int:
        return int(cells * config.share)

    def head(self, config: ContextConfig, encoder: EncoderModel, units: int) -> tuple[int, int]:
        outputs = encoder.unit**2 * 3
        return units * encoder.out_width * outputs, (encoder.out_width + 1) * outputs


SPEC = Context()
