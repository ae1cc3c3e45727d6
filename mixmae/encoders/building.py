"""Builds an encoder from its config."""

from mixmae.encoders.encoder import Encoder
from mixmae.encoders.families import EncoderModel, families
from mixmae.fields.specs import resolve


def build_encoder(config: EncoderModel, image_size: tuple[int, int], drop_path: float = 0.0) -> Encoder:
    """Builds the encoder of a stage job's `encoder` (windows and ratios resolved), freshly initialised."""
    encoder: Encoder = resolve(families[config.family].model)(config, image_size, drop_path)
    return encoder
