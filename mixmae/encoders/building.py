"""From a config to an encoder."""

from torch import nn

from mixmae.encoders.families import EncoderModel, families
from mixmae.fields.specs import resolve


def build_encoder(config: EncoderModel, image_size: tuple[int, int], drop_path: float = 0.0) -> nn.Module:
    """The encoder of a stage job's `encoder` (windows and ratios resolved), freshly initialised."""
    return resolve(families[config.family].model)(config, image_size, drop_path)
