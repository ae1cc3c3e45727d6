"""A family without attention: one stage of MLP-Mixer blocks (no torch)."""

from typing import Any, Literal

from mixmae.encoders.families import EncoderModel, EncoderSpec
from mixmae.fields.model import Positive


class MixerConfig(EncoderModel):
    """MLP-Mixer (Tolstikhin et al. 2021); a unit is a patch."""

    family: Literal["toy_mixer"] = "toy_mixer"
    patch_size: Positive = 8
    width: Positive
    depth: Positive

    @property
    def unit(self) -> int:
        return self.patch_size

    @property
    def out_width(self) -> int:
        return self.width

    @property
    def shape(self) -> dict[str, Any]:
        return self.model_dump(include={"family", "patch_size", "width", "depth"})


class ToyMixer(EncoderSpec):
    name, label = "toy_mixer", "Toy mixer"
    config = MixerConfig
    model = "toybox.mixer:Mixer"
    variants = {"toy_mixer_nano": dict(width=16, depth=1)}
    small = "toy_mixer_nano"


SPEC = ToyMixer()
