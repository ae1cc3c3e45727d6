"""From a config to an encoder."""

from torch import nn

from mixmae import names


def build_encoder(config, image_size: tuple[int, int], drop_path: float = 0.0) -> nn.Module:
    """The encoder of a stage job's `encoder` (windows and ratios resolved), freshly initialised."""
    fields = {name: getattr(config, name) for name in type(config).model_fields if name not in ("name", "family")}
    return names.resolve(names.ENCODERS[config.family])(image_size, **fields, drop_path=drop_path)
